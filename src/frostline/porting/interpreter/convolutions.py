"""Convolutions of Keras: channels last; SAME pads one value more after the data if the number is odd.

Legend: B batch, C channels, S spatial axes, K kernel sizes, G groups, M depth multiplier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from frostline.porting.blocks import pad_same
from frostline.porting.interpreter.activations import activated
from frostline.porting.interpreter.layer import Layer, as_sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _Form(NamedTuple):
    """The settings that all convolutions have."""

    axes: int
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


def _form(layer: Layer) -> _Form:
    layer.allow(data_format="channels_last")
    axes = layer.input().ndim - 2
    if axes not in _CONV:
        layer.refuse(f"an input of {axes + 2} axes")
    stride = as_sizes(layer, layer.setting("strides", 1), axes)
    return _Form(axes, stride, as_sizes(layer, layer.setting("dilation_rate", 1), axes))


def _convolved(layer: Layer, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """The convolution of a layer with a weight in PyTorch's layout; the result has channels last."""
    axes, stride, dilation = _form(layer)
    x, kernel, padding = layer.input().movedim(-1, 1), weight.shape[2:], layer.setting("padding", "valid")
    layer.bounded(*x.shape[:2], *(size + k * d for size, k, d in zip(x.shape[2:], kernel, dilation, strict=True)))
    if padding == "same":
        x = pad_same(x, kernel, stride, dilation)
    elif padding == "causal" and axes == 1:
        x = F.pad(x, (dilation[0] * (kernel[0] - 1), 0))
    elif padding != "valid":
        layer.refuse(f"padding {padding!r}")
    return _CONV[axes](x, weight, bias, stride, 0, dilation, groups).movedim(1, -1)


def _of_kernel(kernel: Tensor) -> Tensor:
    """(K..., in, out) to (out, in, K...)."""
    return kernel.permute(-1, -2, *range(kernel.ndim - 2))


def _of_depthwise(kernel: Tensor) -> Tensor:
    """(K..., C, M) to (C * M, 1, K...)."""
    return kernel.permute(-2, -1, *range(kernel.ndim - 2)).flatten(0, 1).unsqueeze(1)


def _conv(layer: Layer) -> Tensor:
    groups = layer.setting("groups", 1)
    if not isinstance(groups, int):
        layer.refuse(f"groups {groups!r}")
    return activated(layer, _convolved(layer, _of_kernel(layer.weight("kernel")), layer.bias(), groups))


def _depthwise(layer: Layer) -> Tensor:
    leaf = "depthwise_kernel" if "depthwise_kernel" in layer.weights else "kernel"
    weight = _of_depthwise(layer.weight(leaf))
    return activated(layer, _convolved(layer, weight, layer.bias(), layer.input().shape[-1]))


def _separable(layer: Layer) -> Tensor:
    x = _convolved(layer, _of_depthwise(layer.weight("depthwise_kernel")), None, layer.input().shape[-1])
    pointwise = layer.weight("pointwise_kernel")
    x = x @ pointwise.reshape(pointwise.shape[-2:])
    bias = layer.bias()
    return activated(layer, x if bias is None else x + bias)


def _transposed(layer: Layer) -> Tensor:
    """A transposed convolution, computed in full: SAME crops its rim, and zeros are appended if it is too short."""
    axes, stride, dilation = _form(layer)
    padding, more = layer.setting("padding", "valid"), layer.setting("output_padding")
    if padding not in ("valid", "same"):
        layer.refuse(f"padding {padding!r}")
    outer = None if more is None else as_sizes(layer, more, axes)
    weight = _of_kernel(layer.weight("kernel"))  # stored as (K..., out, in): this is (in, out, K...)
    x = layer.input().movedim(-1, 1)
    sizes = zip(x.shape[2:], stride, weight.shape[2:], dilation, strict=True)
    layer.bounded(len(x), weight.shape[1], *(size * step + k * d for size, step, k, d in sizes))
    whole = _TRANSPOSED[axes](x, weight, None, stride, 0, 0, 1, dilation)
    for axis in range(axes):
        reach = (weight.shape[2 + axis] - 1) * dilation[axis] + 1
        size, step = x.shape[2 + axis], stride[axis]
        if outer is not None:
            length = (size - 1) * step + (reach if padding == "valid" else reach % 2) + outer[axis]
        else:
            length = size * step + (max(reach - step, 0) if padding == "valid" else 0)
        given = whole.shape[2 + axis]
        start = max(given - length, 0) // 2 if padding == "same" else 0
        whole = whole.narrow(2 + axis, start, min(length, given - start))
        if length > given:
            filling = torch.zeros_like(whole.narrow(2 + axis, 0, 1)).repeat_interleave(length - given, 2 + axis)
            whole = torch.cat([whole, filling], 2 + axis)
    whole, bias = whole.movedim(1, -1), layer.bias()
    return activated(layer, whole if bias is None else whole + bias)


KINDS: dict[str, Callable[[Layer], Tensor]] = {
    **{f"Conv{axes}D": _conv for axes in (1, 2, 3)},
    **{f"Convolution{axes}D": _conv for axes in (1, 2, 3)},
    **{f"DepthwiseConv{axes}D": _depthwise for axes in (1, 2)},
    **{f"SeparableConv{axes}D": _separable for axes in (1, 2)},
    **{f"Conv{axes}DTranspose": _transposed for axes in (1, 2, 3)},
}
