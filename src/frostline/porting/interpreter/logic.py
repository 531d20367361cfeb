"""Operations on tensors from which Keras 3 computes masks; a network file lists them as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from frostline.porting.interpreter.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Callable


def _unequal(layer: Layer) -> Tensor:
    """Elements that differ from a number; the number is rounded to float32, the precision of the network's values."""
    call = layer.setting("call")
    given = call.get("args") if isinstance(call, dict) else None
    number = given[1] if isinstance(given, list) and len(given) == 2 and given[0] is None else None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        layer.refuse(f"the arguments {given!r}")
    return layer.input() != float(np.float32(number))


def _any(layer: Layer) -> Tensor:
    axis = layer.setting("axis")
    if not isinstance(axis, int):
        layer.refuse(f"axis {axis!r}")
    return layer.input().bool().any(axis, bool(layer.setting("keepdims", False)))


def _expanded(layer: Layer) -> Tensor:
    axis = layer.setting("axis")
    if not isinstance(axis, int):
        layer.refuse(f"axis {axis!r}")
    return layer.input().unsqueeze(axis)


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Layer], Tensor]:
    def apply(layer: Layer) -> Tensor:
        if len(layer.inputs) != 2:
            layer.refuse(f"{len(layer.inputs)} inputs")
        return function(*layer.inputs)

    return apply


def _filled(function: Callable[..., Tensor]) -> Callable[[Layer], Tensor]:
    def apply(layer: Layer) -> Tensor:
        layer.allow(dtype="bool")
        return function(layer.input(), dtype=torch.bool)

    return apply


KINDS: dict[str, Callable[[Layer], Tensor]] = {
    "NotEqual": _unequal,
    "Any": _any,
    "ExpandDims": _expanded,
    "LogicalOr": _both(torch.logical_or),
    "LogicalAnd": _both(torch.logical_and),
    "ZerosLike": _filled(torch.zeros_like),
    "OnesLike": _filled(torch.ones_like),
}
