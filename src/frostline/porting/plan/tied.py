"""Weights that a module shares between layers, such as an embedding and the output layer of a language model.

A file may store such weights twice or once: safetensors and other formats omit the second name. If the file has fewer
layers than the module, the layer whose tensors are all shared is left out of the assignment; if it has both layers,
both are written, and different values are refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import PortError
from frostline.porting.layouts.choice import moves
from frostline.porting.units.unit import current_value, full_name, stored_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.units.unit import SourceUnit, TargetUnit


def remove_ties(
    targets: Sequence[TargetUnit], units: Sequence[SourceUnit]
) -> tuple[tuple[TargetUnit, ...], tuple[str, ...]]:  # fmt: skip
    """Remove shared tensors that the file stores once.

    Args:
        targets: Layers of the module.
        units: Layers of the file.

    Returns:
        The layers to assign, and a note for each shared tensor.
    """
    first: dict[int, tuple[TargetUnit, str]] = {}
    made: list[TargetUnit] = []
    notes: list[str] = []
    for target in targets:
        shared = {own for own, tensor in target.tensors.items() if id(tensor) in first}
        for own, tensor in target.tensors.items():
            first.setdefault(id(tensor), (target, own))
        if not shared or _is_complete(target, [first[id(target.tensors[own])][0] for own in shared], targets, units):
            made.append(target)
            continue
        notes += [
            f"{full_name(target, own)} is {full_name(*first[id(target.tensors[own])])}: the module shares this "
            "tensor, the file stores it once"
            for own in sorted(shared)
        ]
        own_tensors = {own: tensor for own, tensor in target.tensors.items() if own not in shared}
        if own_tensors:
            made.append(replace(target, tensors=own_tensors))
    return tuple(made), tuple(notes)


def _is_complete(
    target: TargetUnit, holders: Sequence[TargetUnit], targets: Sequence[TargetUnit], units: Sequence[SourceUnit]
) -> bool:
    """Whether the file has a layer for this one in addition to those that it shares weights with."""
    sources = [unit for unit in units if any(moves(unit, one) is not None for one in (target, *holders))]
    rivals = [one for one in targets if any(moves(unit, one) is not None for unit in sources)]
    return any(moves(unit, target) is not None for unit in sources) and len(sources) >= len(rivals)


def shared_names(plan: PortPlan) -> set[str]:
    """Names of tensors that share their memory with another tensor that the plan writes."""
    written = [
        (full_name(step.target, move.target), tensor.untyped_storage().data_ptr())
        for step in plan.steps
        for move in step.moves
        for tensor in stored_tensors(step.target, move.target)
    ]
    count = Counter(memory for _, memory in written)
    return {name for name, memory in written if count[memory] > 1}


# A file may hold a shared weight twice. If the two copies differ, the network of the file does not share it, and
# writing one of them would change the function.
def check_shared(plan: PortPlan, values: Mapping[str, Tensor]) -> None:
    """Check that tensors that share memory were written with the same values.

    Args:
        plan: The plan, after it was written.
        values: The written values of tensors that share memory, by name.

    Raises:
        PortError: If one of the tensors has another value now.
    """
    for step in plan.steps:
        for move in step.moves:
            name, now = full_name(step.target, move.target), current_value(step.target, move.target)
            if name in values and not torch.equal(now, values[name].to(now)):
                raise PortError(
                    what=f"The file has different values for weights that the module shares, such as {name!r}.",
                    where=f"{plan.path}, {step.source.name!r}", received="two different tensors for the same memory",
                    do="build the module so that each of these layers has its own weights, as in the file.",
                )  # fmt: skip
