"""Whether two assignments compute the same function, such as exchanged branches whose outputs are summed."""

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

_EXACT = 1e-12  # relative difference in float64 that another order of summation causes
_SCALE = 1e3  # a factor for layers, with which a branch shows even if it is multiplied by 1e-8


def probed(model: nn.Module, targets: Iterable[TargetUnit], inputs: Sequence[Any]) -> list[Tensor] | None:
    """The outputs of a copy of the module in float64, unchanged and with some of its layers scaled.

    Args:
        model: The module.
        targets: Layers whose assignment is ambiguous; these are scaled.
        inputs: Several inputs in the form that the module takes.

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
    """Whether two results of `probed` are equal up to rounding of float64."""
    return one is not None and other is not None and len(one) == len(other) and difference(one, other) <= _EXACT


@torch.no_grad()
def _scale(layers: Iterable[nn.Module]) -> None:
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            parameter.mul_(_SCALE)
