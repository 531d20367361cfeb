"""Whether two assignments of weights are one by symmetry, as where twins are summed, or only look so."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import FOREIGN
from frostline.core.inputs import map_tensors
from frostline.core.layers import submodule
from frostline.porting.proof.module_outputs import difference, outputs_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from frostline.porting.units.unit import TargetUnit

_EXACT = 1e-12  # in float64: what other orders of a sum make of it
_SCALE = 1e3  # of layers: a branch that is multiplied by 1e-8 shows then


def probed(model: nn.Module, targets: Iterable[TargetUnit], inputs: Sequence[Any]) -> list[Tensor] | None:
    """What a copy of the module in float64 gives: as it is, and with some of its layers scaled.

    Args:
        model: The module.
        targets: Layers whose assignment is in doubt.
        inputs: Several, as the module takes them.

    Returns:
        All outputs in one list; None if the copy cannot be made or run.
    """
    try:
        exact = copy.deepcopy(model).double()
    except FOREIGN:
        return None
    wide = [map_tensors(one, lambda value: value.double() if value.is_floating_point() else value) for one in inputs]
    owners = {target.owner for target in targets}
    given: list[Tensor] = []
    for is_scaled in (False, True):
        if is_scaled:
            _scale([submodule(exact, name) for name in owners])
        for one in wide:
            found = outputs_of(exact, one)
            if found is None:
                return None
            given += found
    return given


def are_same(one: Sequence[Tensor] | None, other: Sequence[Tensor] | None) -> bool:
    """Whether two modules gave the same, as nearly as float64 tells."""
    return one is not None and other is not None and len(one) == len(other) and difference(one, other) <= _EXACT


@torch.no_grad()
def _scale(layers: Iterable[nn.Module]) -> None:
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            parameter.mul_(_SCALE)
