"""Whether two assignments compute the same function, such as exchanged branches whose outputs are summed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline.core.errors import FOREIGN
from frostline.core.inputs import map_tensors
from frostline.core.layers import submodule
from frostline.porting.proof.module_outputs import difference, outputs_of
from frostline.porting.units.unit import current_value, stored_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from torch import Tensor

    from frostline.porting.units.unit import TargetUnit

_EXACT = 1e-12  # in float64: what other orders of a sum make of it
_SCALE = 1e3  # of layers: a branch that is multiplied by 1e-8 shows then
_CHANGE = 0.1  # of weights, relative to their size: it shows whether outputs depend on them


def unseen(
    model: nn.Module, holds: Sequence[Callable[[], None]], targets: Sequence[TargetUnit], inputs: Sequence[Any]
) -> tuple[str, ...] | None:
    """The layers that the outputs do not depend on, of assignments that give the same outputs.

    Two layers that compute the same by symmetry may be exchanged. Two layers behind a factor of zero give the same
    outputs as well, but have different places: that shows once the other weights of the module are random numbers.

    Args:
        model: The module.
        holds: Functions that each write one of the assignments into the module.
        targets: Layers into which they write different tensors.
        inputs: Several, as the module takes them.

    Returns:
        None if the assignments compute different things. Otherwise the layers on which the outputs do not depend and
        that are not symmetric: the outputs do not distinguish them.
    """
    first: list[Tensor] | None = None
    values: dict[str, list[Tensor]] = {}
    moved: dict[str, TargetUnit] = {}
    for at, hold in enumerate(holds):
        hold()
        given = _given(model, targets, inputs)
        if given is None or (at and (first is None or not are_same(first, given))):
            return None
        first = first if at else given
        for target in targets:
            now = [current_value(target, own).detach().clone() for own in target.tensors]
            if not all(map(torch.equal, values.setdefault(target.name, now), now)):
                moved[target.name] = target
    silent = _silent(model, list(moved.values()), inputs)
    if not silent:
        return ()
    fixed = {id(one) for target in moved.values() for one in _parameters(target)}
    revived: list[list[Tensor] | None] = []
    for hold in holds:
        hold()
        revived.append(_given(model, (), inputs, fixed))
    is_symmetric = all(are_same(revived[0], one) for one in revived) and not _silent(model, silent, inputs, fixed)
    return () if is_symmetric else tuple(target.name for target in silent)


def are_same(one: Sequence[Tensor] | None, other: Sequence[Tensor] | None) -> bool:
    """Whether two results of a module are equal up to rounding of float64."""
    return one is not None and other is not None and len(one) == len(other) and difference(one, other) <= _EXACT


def _given(
    model: nn.Module, targets: Iterable[TargetUnit], inputs: Sequence[Any], fixed: Collection[int] | None = None
) -> list[Tensor] | None:
    """The outputs of a copy of the module in float64: as it is, and with the owners of some of its units scaled.

    Returns:
        All outputs in one list; None if the copy cannot be made or run.
    """
    found = _copied(model, fixed)
    if found is None:
        return None
    exact, owners = found[0], {target.owner for target in targets}
    given = _run(exact, inputs)
    if given is not None and owners:
        _scale([submodule(exact, name) for name in owners])
        scaled = _run(exact, inputs)
        return None if scaled is None else given + scaled
    return given


def _silent(
    model: nn.Module, targets: Iterable[TargetUnit], inputs: Sequence[Any], fixed: Collection[int] | None = None
) -> list[TargetUnit]:
    """The layers whose weights may change by a tenth without any change of the outputs, in float64."""
    found = _copied(model, fixed)
    before = _run(found[0], inputs) if found is not None else None
    if found is None or before is None:
        return list(targets)
    exact, twins = found
    random = torch.Generator().manual_seed(0)
    silent: list[TargetUnit] = []
    with torch.no_grad():
        for target in targets:
            parts = [twins[id(one)] for one in _parameters(target)]
            kept = [one.detach().clone() for one in parts]
            for one in parts:
                one.mul_(1 + _CHANGE * torch.randn(one.shape, generator=random).to(one))
            if are_same(before, _run(exact, inputs)):
                silent.append(target)
            for one, value in zip(parts, kept, strict=True):
                one.copy_(value)
    return silent


def _parameters(target: TargetUnit) -> list[Tensor]:
    return [one for own in target.tensors for one in stored_tensors(target, own) if isinstance(one, nn.Parameter)]


def _copied(model: nn.Module, fixed: Collection[int] | None) -> tuple[nn.Module, dict[int, Tensor]] | None:
    """A copy in float64, and its parameters by the identity of those that they were copied from.

    Args:
        model: The module.
        fixed: Parameters, by identity, that the copy has as they are; all others become random numbers of the size of
            new weights, the same each time. None leaves all.
    """
    memo: dict[int, Any] = {}
    try:
        exact = copy.deepcopy(model, memo).double()
    except FOREIGN:
        return None
    twins = {id(one): memo[id(one)] for one in model.parameters()}
    if fixed is None:
        return exact, twins
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for own, twin in twins.items():
            drawn = torch.rand(twin.shape, generator=random).to(twin) + 0.5
            if own not in fixed:
                twin.data = drawn if twin.ndim < 2 else (drawn - 1) * (12 / max(1, twin[0].numel())) ** 0.5
    return exact, twins


def _run(exact: nn.Module, inputs: Sequence[Any]) -> list[Tensor] | None:
    given: list[Tensor] = []
    for one in inputs:
        found = outputs_of(
            exact, map_tensors(one, lambda value: value.double() if value.is_floating_point() else value)
        )
        if found is None:
            return None
        given += found
    return given


# A branch that is multiplied by 1e-8 changes no digit of the outputs, so that a wrong assignment in it looks equal.
# Scaled by 1,000, its layers show.
@torch.no_grad()
def _scale(layers: Iterable[nn.Module]) -> None:
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            parameter.mul_(_SCALE)
