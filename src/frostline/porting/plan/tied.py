"""Weights that a module shares between layers, such as an embedding and the layer that reads it backwards.

A file may have them twice, or once: safetensors and many others leave out the second name. Where the file has fewer
layers than the module, the layer that only shares is left out of the matching; where it has both, both are written, and
values that differ are refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import PortError
from frostline.porting.layouts.choice import moves
from frostline.porting.units.unit import full_name, held, stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.units.unit import SourceUnit, TargetUnit


def without_ties(
    targets: Sequence[TargetUnit], units: Sequence[SourceUnit]
) -> tuple[tuple[TargetUnit, ...], tuple[str, ...]]:  # fmt: skip
    """The layers of the module as the file has them, and a note for each shared tensor that is written once.

    Args:
        targets: Layers of the module.
        units: Layers of the file.
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
            f"{full_name(target, own)} is {full_name(*first[id(target.tensors[own])])}: the module shares it, the file "
            "has it once"
            for own in sorted(shared)
        ]
        own_tensors = {own: tensor for own, tensor in target.tensors.items() if own not in shared}
        if own_tensors:
            made.append(replace(target, tensors=own_tensors))
    return tuple(made), tuple(notes)


def _is_complete(
    target: TargetUnit, holders: Sequence[TargetUnit], targets: Sequence[TargetUnit], units: Sequence[SourceUnit]
) -> bool:
    """Whether the file has a layer for this one beside those for the layers that it shares weights with."""
    sources = [unit for unit in units if any(moves(unit, one) is not None for one in (target, *holders))]
    rivals = [one for one in targets if any(moves(unit, one) is not None for unit in sources)]
    return any(moves(unit, target) is not None for unit in sources) and len(sources) >= len(rivals)


def shared_names(plan: PortPlan) -> set[str]:
    """Names of what a plan writes into memory that it writes another tensor into as well."""
    written = [
        (full_name(step.target, move.target), tensor.untyped_storage().data_ptr())
        for step in plan.steps
        for move in step.moves
        for tensor in stored(step.target, move.target)
    ]
    count = Counter(memory for _, memory in written)
    return {name for name, memory in written if count[memory] > 1}


def check_shared(plan: PortPlan, values: Mapping[str, Tensor]) -> None:
    """Of tensors that share memory, the last one written must leave the others as they are wanted.

    Args:
        plan: After it was written.
        values: What was written, by name, of tensors that share memory.

    Raises:
        PortError: If one of them is something else now.
    """
    for step in plan.steps:
        for move in step.moves:
            name, now = full_name(step.target, move.target), held(step.target, move.target)
            if name in values and not torch.equal(now, values[name].to(now)):
                raise PortError(
                    what=f"The file has different values for weights that the module shares: {name!r} is one of them.",
                    where=f"{plan.path}, {step.source.name!r}", received="two tensors for one place in memory",
                    do="give the layers weights of their own, as the network of the file has them.",
                )  # fmt: skip
