"""The layers at which a partial port is compared with its source network: the last ones that were ported.

The source network is computed up to these layers, and their outputs in the module are compared. There is no comparison
if only one of the two networks has a layer before them, since the outputs differ then even if the port is right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline.porting.interpreter.random_inputs import PREPARING
from frostline.porting.proof.module_outputs import Place, outputs_of
from frostline.porting.units.unit import RECURRENT, stored_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.step import Step
    from frostline.porting.readers.contract import Source, SourceLayer

_SEED = 0


@dataclass(frozen=True)
class ComparisonPoint:
    """The layers at which a source network and a module are compared.

    Attributes:
        source: The source network up to these layers, which are its outputs.
        layers: The layers of the file.
        at: The same layers in the module.
    """

    source: Source
    layers: tuple[str, ...]
    at: tuple[Place, ...]


def find_comparison_point(source: Source, plan: PortPlan, model: nn.Module) -> ComparisonPoint | str:
    """The layers at which a partial port can be compared; a reason if there are none."""
    if any(len(one.sources) != len(one.targets) for one in plan.opened):
        return "some open layers have more candidates than there are layers"
    steps = {step.source.name.removesuffix("/pointwise"): step for step in _decided_steps(plan)}
    opened = {name for one in plan.opened for name in one.sources}
    ported = {layer.name for layer in source.layers if (layer.unit or layer.name) in steps.keys() | opened}
    last = [layer for layer in source.layers if layer.name in ported - _before(source.layers, ported)]
    above = _before(source.layers, {layer.name for layer in last})
    kinds = {layer.name: layer.kind for layer in source.layers}
    unassigned = [name for name in plan.unused if name in above and kinds[name] not in PREPARING]
    if unassigned:
        return (
            f"{', '.join(map(repr, unassigned[:3]))} of the file was not assigned, and precedes layers that were ported"
        )
    places: list[Place] = []
    for layer in last:
        step = steps.get(layer.unit or layer.name)
        place = _place(step, model) if step is not None else None
        if place is None or place in places:
            return f"{layer.name!r}, the last layer that was ported, has no single output in the module"
        places.append(place)
    if not last:
        return "the architecture in the file does not contain the layers that were ported"
    names = tuple(layer.name for layer in last)
    kept = {*above, *names}
    layers = tuple(one for one in source.layers if one.name in kept or one.kind in ("InputLayer", "Input"))
    return ComparisonPoint(replace(source, layers=layers, outputs=names), names, tuple(places))


# Measured by a run with other values, not by the order of calls: that does not see functional use of a weight, and
# takes a parallel branch for one before.
def depends_on_kept(plan: PortPlan, model: nn.Module, inputs: Any, at: Sequence[Place]) -> bool:
    """Whether the outputs of ported layers depend on layers that keep their values.

    All tensors that are not ported get other values for one run, and are restored afterwards.
    """
    ways = [way for group in plan.opened for ways in group.steps.values() for way in ways]
    written = {id(tensor) for step in (*plan.steps, *ways)
               for move in step.moves for tensor in stored_tensors(step.target, move.target)}  # fmt: skip
    others = [one for one in (*model.parameters(), *model.buffers())
              if id(one) not in written and one.is_floating_point()]  # fmt: skip
    kept = [one.detach().clone() for one in others]
    random = torch.Generator().manual_seed(_SEED)
    first = outputs_of(model, inputs, at)
    try:
        with torch.no_grad():
            for one in others:
                one.copy_(torch.rand(one.shape, generator=random) + 0.5)
        second = outputs_of(model, inputs, at)
    finally:
        with torch.no_grad():
            for one, before in zip(others, kept, strict=True):
                one.copy_(before)
    if first is None or second is None:
        return True
    return not all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def _decided_steps(plan: PortPlan) -> Iterable[Step]:
    return (*plan.steps, *(next(group.ways())[0] for group in plan.opened if group.is_pair))


def _before(layers: Sequence[SourceLayer], names: Iterable[str]) -> set[str]:
    """All layers whose outputs one of `names` depends on."""
    inputs = {layer.name: layer.inputs for layer in layers}
    found: set[str] = set()
    waiting = [name for one in names for name in inputs[one]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += inputs.get(name, ())
    return found


def _place(step: Step, model: nn.Module) -> Place | None:
    """The place in the module of a layer's output; None if the layer has no single output to compare."""
    target = step.target
    if target.norm is not None:  # the file has the norm folded into this layer: compare behind the norm
        return next((Place(name) for name, module in model.named_modules() if module is target.norm), None)
    if not isinstance(target.module, RECURRENT):
        return Place(target.owner) if target.name == target.owner else None
    if target.module.bidirectional or target.module.num_layers > 1 or step.source.framework != "keras":
        return None
    return Place(target.owner, takes_last_step=not step.source.setting("return_sequences", False))
