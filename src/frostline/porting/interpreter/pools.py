"""Pooling, padding, cropping and enlarging of Keras; channels last.

Legend: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from frostline.porting.blocks import pad_same
from frostline.porting.interpreter.layer import Layer, as_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVG = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _pooled(layer: Layer, *, largest: bool) -> Tensor:
    layer.allow(data_format="channels_last")
    x, axes = layer.input().movedim(-1, 1), layer.input().ndim - 2
    size = as_sizes(layer, layer.setting("pool_size", 2), axes)
    stride = as_sizes(layer, layer.setting("strides") or size, axes)
    padding = layer.setting("padding", "valid")
    if padding not in ("valid", "same"):
        layer.refuse(f"padding {padding!r}")
    ones = (1,) * axes
    layer.bounded(*x.shape[:2], *map(sum, zip(x.shape[2:], size, strict=True)))
    if largest:
        x = pad_same(x, size, stride, ones, -math.inf) if padding == "same" else x
        return _MAX[axes](x, size, stride).movedim(1, -1)
    if padding == "valid":
        return _AVG[axes](x, size, stride).movedim(1, -1)
    counted = _AVG[axes](pad_same(torch.ones_like(x[:1, :1]), size, stride, ones), size, stride)
    return (_AVG[axes](pad_same(x, size, stride, ones), size, stride) / counted).movedim(1, -1)


def _global(layer: Layer, *, largest: bool) -> Tensor:
    layer.allow(data_format="channels_last")
    x = layer.input()
    axes, keeps = tuple(range(1, x.ndim - 1)), bool(layer.setting("keepdims", False))
    if layer.kind == "GlobalAveragePooling1D" and layer.mask is not None:
        mask_BT1 = layer.mask.unsqueeze(-1)
        return x.where(mask_BT1, 0.0).sum(axes, keeps) / mask_BT1.sum(axes, keeps)
    return x.amax(axes, keeps) if largest else x.mean(axes, keeps)


def _sides(layer: Layer, setting: str) -> list[tuple[int, int]]:
    """How many values before and after, for each spatial axis."""
    layer.allow(data_format="channels_last")
    axes, value = layer.input().ndim - 2, layer.needed(setting)
    if isinstance(value, int):
        return [(value, value)] * axes
    given: list[Any] = list(value) if isinstance(value, (list, tuple)) else []
    if axes == 1 and len(given) == 2 and all(isinstance(one, int) for one in given):
        given = [given]
    if len(given) != axes:
        layer.refuse(f"{setting} {value!r}")
    pairs = [as_sizes(layer, one, 2) for one in given]
    return [(before, after) for before, after in pairs]


def _zero_padded(layer: Layer) -> Tensor:
    x, sides = layer.input(), _sides(layer, "padding")
    layer.bounded(len(x), x.shape[-1], *(size + sum(pair) for size, pair in zip(x.shape[1:-1], sides, strict=True)))
    return F.pad(x, (0, 0, *(size for pair in reversed(sides) for size in pair)))


def _cropped(layer: Layer) -> Tensor:
    x = layer.input()
    for axis, (before, after) in enumerate(_sides(layer, "cropping"), start=1):
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


def _enlarged(layer: Layer) -> Tensor:
    layer.allow(data_format="channels_last")
    x, axes = layer.input(), layer.input().ndim - 2
    size = as_sizes(layer, layer.setting("size", 2), axes)
    layer.bounded(*x.shape, *size)
    kind = layer.setting("interpolation", "nearest")
    if kind == "bilinear" and axes == 2:
        shape = [x.shape[1] * size[0], x.shape[2] * size[1]]
        return F.interpolate(x.movedim(-1, 1), shape, mode="bilinear", align_corners=False).movedim(1, -1)
    if kind != "nearest":
        layer.refuse(f"interpolation {kind!r}")
    for axis, times in enumerate(size, start=1):
        x = x.repeat_interleave(times, axis)
    return x


KINDS: dict[str, Callable[[Layer], Tensor]] = {
    **{f"MaxPooling{axes}D": lambda layer: _pooled(layer, largest=True) for axes in (1, 2, 3)},
    **{f"AveragePooling{axes}D": lambda layer: _pooled(layer, largest=False) for axes in (1, 2, 3)},
    **{f"GlobalMaxPooling{axes}D": lambda layer: _global(layer, largest=True) for axes in (1, 2, 3)},
    **{f"GlobalAveragePooling{axes}D": lambda layer: _global(layer, largest=False) for axes in (1, 2, 3)},
    **{f"ZeroPadding{axes}D": _zero_padded for axes in (1, 2, 3)},
    **{f"Cropping{axes}D": _cropped for axes in (1, 2, 3)},
    **{f"UpSampling{axes}D": _enlarged for axes in (1, 2, 3)},
}
