"""Norms of Keras in evaluation mode.

Legend: B batch, C channels, G groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.porting.interpreter.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Callable


def _axes(layer: Layer, x: Tensor) -> tuple[int, ...]:
    """The setting `axis` as sorted, non-negative axes."""
    axis = layer.setting("axis", -1)
    axes = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    if not all(isinstance(one, int) and -x.ndim <= one < x.ndim for one in axes):
        layer.refuse(f"axis {axis!r}")
    return tuple(sorted(one % x.ndim for one in axes))


def _spread(value: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A weight over `axes`, reshaped to broadcast with the value."""
    return value.reshape([x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)])


def _affine(layer: Layer, value: Tensor, axes: tuple[int, ...]) -> Tensor:
    if layer.setting("scale", True):
        value = value * _spread(layer.weight("gamma"), value, axes)
    return value + _spread(layer.weight("beta"), value, axes) if layer.setting("center", True) else value


def _batch_norm(layer: Layer) -> Tensor:
    layer.allow(renorm=False)
    x = layer.input()
    axes = _axes(layer, x)
    mean, variance = (_spread(layer.weight(leaf), x, axes) for leaf in ("moving_mean", "moving_variance"))
    return _affine(layer, (x - mean) / torch.sqrt(variance + layer.setting("epsilon", 1e-3)), axes)


def _layer_norm(layer: Layer) -> Tensor:
    x = layer.input()
    axes, epsilon = _axes(layer, x), layer.setting("epsilon", 1e-3)
    variance = x.var(axes, correction=0, keepdim=True)
    if layer.setting("rms_scaling"):  # Keras divides by the variance, and does not subtract the mean
        return x / torch.sqrt(variance + epsilon) * _spread(layer.weight("gamma"), x, axes)
    return _affine(layer, (x - x.mean(axes, keepdim=True)) / torch.sqrt(variance + epsilon), axes)


def _rms_norm(layer: Layer) -> Tensor:
    x = layer.input()
    axes = _axes(layer, x)
    scaled = x / torch.sqrt((x * x).mean(axes, keepdim=True) + layer.setting("epsilon", 1e-6))
    return scaled * _spread(layer.weight("scale"), x, axes)


def _group_norm(layer: Layer) -> Tensor:
    x, groups = layer.input(), layer.setting("groups", 32)
    if _axes(layer, x) != (x.ndim - 1,):
        layer.refuse(f"axis {layer.setting('axis')!r}")
    groups = x.shape[-1] if groups == -1 else groups
    if not isinstance(groups, int) or x.shape[-1] % groups:
        layer.refuse(f"groups {groups!r}")
    apart = x.reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = apart.mean(axes, keepdim=True), apart.var(axes, correction=0, keepdim=True)
    normed = (apart - mean) / torch.sqrt(variance + layer.setting("epsilon", 1e-3))
    return _affine(layer, normed.reshape(x.shape), (x.ndim - 1,))


def _unit_norm(layer: Layer) -> Tensor:
    x = layer.input()
    square = (x * x).sum(_axes(layer, x), keepdim=True)
    return x / torch.sqrt(square.clamp(min=1e-12))


def _normalization(layer: Layer) -> Tensor:
    """The standardised inputs; mean and variance are weights or settings."""
    x = layer.input()
    axis = layer.setting("axis", -1)
    axes = () if axis is None else _axes(layer, x)
    stated = (
        layer.setting("input_mean", layer.setting("mean")),
        layer.setting("input_variance", layer.setting("variance")),
    )
    if stated[0] is not None and stated[1] is not None:
        mean, variance = (torch.tensor(value, dtype=torch.float64) for value in stated)
        mean, variance = (
            _spread(one, x, axes) if one.numel() == _spread_size(x, axes) else one for one in (mean, variance)
        )
    else:
        mean, variance = (_spread(layer.weight(leaf), x, axes) for leaf in ("mean", "variance"))
    deviation = variance.sqrt().clamp(min=1e-7)
    return x * deviation + mean if layer.setting("invert") else (x - mean) / deviation


def _spread_size(x: Tensor, axes: tuple[int, ...]) -> int:
    size = 1
    for axis in axes:
        size *= x.shape[axis]
    return size


KINDS: dict[str, Callable[[Layer], Tensor]] = {
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "UnitNormalization": _unit_norm,
    "Normalization": _normalization,
}
