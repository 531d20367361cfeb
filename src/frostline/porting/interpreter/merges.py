"""Layers without weights that change the shape of a value, or combine several values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.porting.interpreter.layer import Layer
from frostline.porting.interpreter.masks import check_unmasked, counting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add, "Subtract": torch.sub, "Multiply": torch.mul, "Maximum": torch.maximum,
    "Minimum": torch.minimum,
}  # fmt: skip


def _merged(layer: Layer) -> Tensor:
    """Elementwise layers; an operation on tensors with the same name may also have a number as an operand."""
    if layer.kind not in ("Add", "Subtract") and layer.version != 2:
        check_unmasked(layer)
    values: Sequence[Any] = layer.inputs
    call = layer.setting("call")
    if "trainable" not in layer.config and isinstance(call, dict) and isinstance(call.get("args"), list):
        given = iter(layer.inputs)
        values = [next(given, None) if one is None else one for one in call["args"]]
        if len(values) != 2 or next(given, None) is not None:
            layer.refuse("other arguments than two")
        values = [torch.as_tensor(one, dtype=torch.float64) if isinstance(one, (int, float)) else one for one in values]
    if len(values) < 2 or not all(isinstance(one, Tensor) for one in values):
        layer.refuse(f"{len(values)} inputs")
    if len({one.ndim for one in values} - {0}) > 1:
        layer.refuse("inputs of different numbers of axes")
    made = values[0]
    for one in values[1:]:
        made = _PAIRWISE[layer.kind](made, one)
    return made


def _averaged(layer: Layer) -> Tensor:
    if len(layer.inputs) < 2 or "trainable" not in layer.config:
        layer.refuse("an average over an axis")
    if len({one.ndim for one in layer.inputs}) > 1:
        layer.refuse("inputs of different numbers of axes")
    made = layer.inputs[0]
    for one in layer.inputs[1:]:
        made = made + one
    return made / len(layer.inputs)


def _concatenated(layer: Layer) -> Tensor:
    axis = layer.setting("axis", -1)
    if not isinstance(axis, int) or len(layer.inputs) < 2:
        layer.refuse(f"axis {axis!r} of {len(layer.inputs)} inputs")
    return torch.cat(layer.inputs, axis)


def _dot(layer: Layer) -> Tensor:
    """The sum over one axis of each input; the other axes of the first input come before those of the second."""
    if len(layer.inputs) != 2:
        layer.refuse(f"{len(layer.inputs)} inputs")
    one, two = layer.inputs
    axes = layer.needed("axes")
    first, second = (axes, axes) if isinstance(axes, int) else tuple(axes)
    first, second = first % one.ndim, second % two.ndim
    if layer.setting("normalize"):
        one, two = (x / torch.sqrt((x * x).sum(at, keepdim=True).clamp(min=1e-12))
                    for x, at in ((one, first), (two, second)))  # fmt: skip
    left = ["a", *(chr(ord("i") + axis) for axis in range(1, one.ndim))]
    right = ["a", *(chr(ord("r") + axis) for axis in range(1, two.ndim))]
    left[first] = right[second] = "z"
    kept = "".join(letter for letter in (*left, *right[1:]) if letter != "z")
    made = torch.einsum(f"{''.join(left)},{''.join(right)}->{kept}", one, two)
    return made.unsqueeze(1) if made.ndim == 1 else made


def _flattened(layer: Layer) -> Tensor:
    layer.allow(data_format="channels_last")
    x = layer.input()
    return x.flatten(1) if x.ndim > 1 else x.unsqueeze(1)


def _reshaped(layer: Layer) -> Tensor:
    shape, x = layer.needed("target_shape"), layer.input()
    if not isinstance(shape, (list, tuple)) or not all(isinstance(size, int) for size in shape):
        layer.refuse(f"target_shape {shape!r}")
    if -1 not in shape and math.prod(shape) != math.prod(x.shape[1:]):
        layer.refuse(f"target_shape {shape!r} for values of shape {tuple(x.shape[1:])}")
    return x.reshape(len(x), *shape)


def _permuted(layer: Layer) -> Tensor:
    dims, x = layer.needed("dims"), layer.input()
    if sorted(dims) != list(range(1, x.ndim)):
        layer.refuse(f"dims {dims!r}")
    return x.permute(0, *dims)


def _repeated(layer: Layer) -> Tensor:
    count = layer.needed("n")
    if not isinstance(count, int):
        layer.refuse(f"n {count!r}")
    layer.bounded(count, *layer.input().shape)
    return layer.input().unsqueeze(1).repeat_interleave(count, 1)


def _rescaled(layer: Layer) -> Tensor:
    scale, offset = (
        torch.as_tensor(_plain(layer, name, default), dtype=torch.float64)
        for name, default in (("scale", 1.0), ("offset", 0.0))
    )
    return layer.input() * scale + offset


def _plain(layer: Layer, name: str, default: float) -> Any:
    value = layer.setting(name, default)
    if isinstance(value, dict):  # an array, as Keras 3 serializes it
        value = value.get("config", {}).get("value")
    numbers = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(one, (int, float)) for one in numbers):
        layer.refuse(f"{name} {value!r}")
    return value


# Layers that change values in training only.
SAME = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise",
    "AlphaDropout", "ActivityRegularization", "Identity", "RandomFlip", "RandomRotation", "RandomZoom",
    "RandomTranslation", "RandomContrast", "RandomBrightness",
)  # fmt: skip

KINDS: dict[str, Callable[[Layer], Tensor]] = {
    **dict.fromkeys(_PAIRWISE, _merged),
    "Average": _averaged,
    "Concatenate": _concatenated,
    "Dot": _dot,
    "Flatten": _flattened,
    "Reshape": _reshaped,
    "Permute": _permuted,
    "RepeatVector": _repeated,
    "Rescaling": _rescaled,
    "Masking": lambda layer: layer.input().where(counting(layer).unsqueeze(-1), 0.0),
    **dict.fromkeys(SAME, Layer.input),
}
