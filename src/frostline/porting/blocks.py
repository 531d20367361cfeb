"""Layers and functions of other frameworks that PyTorch lacks, for modules into which weights are ported.

Legend: B batch, C channels, S spatial axes, T time, I inputs, H hidden units.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Sizes = int | tuple[int, ...]


def _sizes(value: Sizes, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def pad_same(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float = 0.0, *,
    at_start: bool = False,
) -> Tensor:  # fmt: skip
    """A value (B, C, S...) with `SAME` padding: the layer after it gives ceil(S / stride) outputs along each axis.

    The padding depends on the size of the input. If it is odd, the additional value is after the data, or before it if
    `at_start` (`SAME_LOWER` of ONNX).

    References:
        TensorFlow, "Notes on padding", https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    pads: list[int] = []
    for axis in reversed(range(len(kernel))):
        size = x.shape[2 + axis]
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        total = max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
        sides = [total // 2, total - total // 2]
        pads += reversed(sides) if at_start else sides
    return F.pad(x, pads, value=value) if any(pads) else x


class _SamePad(nn.Module):
    axes: ClassVar[int]

    def __init__(self, kernel_size: Sizes, stride: Sizes = 1, dilation: Sizes = 1, value: float = 0.0) -> None:
        super().__init__()
        self.kernel_size, self.stride = _sizes(kernel_size, self.axes), _sizes(stride, self.axes)
        self.dilation, self.value = _sizes(dilation, self.axes), value

    def forward(self, x: Tensor) -> Tensor:
        """Pad (B, C, S...)."""
        return pad_same(x, self.kernel_size, self.stride, self.dilation, self.value)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.kernel_size}, {self.stride}, dilation={self.dilation}, value={self.value:g}"


class SamePad1d(_SamePad):
    """`SAME` padding before a layer over one axis; see `SamePad2d`."""

    axes = 1


class SamePad2d(_SamePad):
    """`SAME` padding before a convolution or pooling layer that has no padding of its own.

    Args:
        kernel_size: The kernel size of the layer after it.
        stride: The stride of the layer after it.
        dilation: The dilation of the layer after it.
        value: The value of the padding; `-math.inf` before max pooling.

    Example:
        >>> import torch
        >>> layer = torch.nn.Sequential(SamePad2d(3, 2), torch.nn.Conv2d(3, 8, 3, stride=2))
        >>> layer(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 8, 112, 112])
    """

    axes = 2


class SamePad3d(_SamePad):
    """`SAME` padding before a layer over three axes; see `SamePad2d`."""

    axes = 3


class _SamePool(nn.Module):
    axes: ClassVar[int]
    pool: ClassVar[Any]
    is_mean: ClassVar[bool]

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None) -> None:
        super().__init__()
        self.kernel_size = _sizes(kernel_size, self.axes)
        self.stride = self.kernel_size if stride is None else _sizes(stride, self.axes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S...) to (B, C, ceil(S / stride)...)."""
        ones = (1,) * self.axes
        padded = pad_same(x, self.kernel_size, self.stride, ones, 0.0 if self.is_mean else -math.inf)
        pooled = self.pool(padded, self.kernel_size, self.stride)
        if not self.is_mean:
            return pooled
        counted = pad_same(torch.ones_like(x[:1, :1]), self.kernel_size, self.stride, ones)
        return pooled / self.pool(counted, self.kernel_size, self.stride)  # the padding does not count in the mean

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.kernel_size}, {self.stride}"


class SameMaxPool1d(_SamePool):
    """Max pooling with `SAME` padding over one axis."""

    axes, pool, is_mean = 1, staticmethod(F.max_pool1d), False


class SameMaxPool2d(_SamePool):
    """Max pooling with `SAME` padding over two axes.

    Args:
        kernel_size: The size of the window.
        stride: The stride; the size of the window by default.
    """

    axes, pool, is_mean = 2, staticmethod(F.max_pool2d), False


class SameMaxPool3d(_SamePool):
    """Max pooling with `SAME` padding over three axes."""

    axes, pool, is_mean = 3, staticmethod(F.max_pool3d), False


class SameAvgPool1d(_SamePool):
    """Average pooling with `SAME` padding over one axis; the padding does not count."""

    axes, pool, is_mean = 1, staticmethod(F.avg_pool1d), True


class SameAvgPool2d(_SamePool):
    """Average pooling with `SAME` padding over two axes; the padding does not count.

    Args:
        kernel_size: The size of the window.
        stride: The stride; the size of the window by default.
    """

    axes, pool, is_mean = 2, staticmethod(F.avg_pool2d), True


class SameAvgPool3d(_SamePool):
    """Average pooling with `SAME` padding over three axes; the padding does not count."""

    axes, pool, is_mean = 3, staticmethod(F.avg_pool3d), True


class CropTransposed(nn.Module):
    """Crops the output of a transposed convolution without padding as `SAME` does.

    Args:
        kernel_size: The kernel size of the transposed convolution before it, whose `padding` is 0. If the kernel is
            smaller than the stride, its `output_padding` is `stride - kernel_size`.
        stride: The stride of the transposed convolution before it.

    Example:
        >>> import torch
        >>> layer = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 2, 3, stride=2), CropTransposed(3, 2))
        >>> layer(torch.zeros(1, 4, 5, 5)).shape
        torch.Size([1, 2, 10, 10])
    """

    def __init__(self, kernel_size: Sizes, stride: Sizes) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """Crop (B, C, S...): each S is (n - 1) * stride + max(kernel, stride), and becomes n * stride."""
        axes = x.ndim - 2
        sizes = zip(_sizes(self.kernel_size, axes), _sizes(self.stride, axes), strict=True)
        for axis, (kernel, stride) in enumerate(sizes, start=2):
            reach = max(kernel, stride)
            x = x.narrow(axis, (reach - stride) // 2, ((x.shape[axis] - reach) // stride + 1) * stride)
        return x

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.kernel_size}, {self.stride}"


class OldHardSigmoid(nn.Module):
    """The hard sigmoid of Keras 2: 0.2 x + 0.5, clamped to [0, 1]; in PyTorch and Keras 3 the slope is 1/6."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return (0.2 * x + 0.5).clamp(0, 1)


def over_steps(layer: nn.Module, x: Tensor, mask: Tensor, *, has_zeros: bool = False) -> Tensor:
    """The outputs (B, T, H) of a recurrent layer that skips padded steps, as the layers of Keras do.

    The output at a padded step is that of the step before it, or zeros if there is none.

    Args:
        layer: A recurrent module with `batch_first=True` and one layer, in one or both directions.
        x: The inputs (B, T, I).
        mask: (B, T), true at steps that count.
        has_zeros: Whether the outputs at padded steps are zeros instead.
    """
    counts = mask.sum(1)
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)  # indices that move steps that count to the front
    x = x.gather(1, order.unsqueeze(-1).expand_as(x))
    is_both = bool(getattr(layer, "bidirectional", False))
    if is_both:  # the backward direction has to begin at the last step that counts
        packed = nn.utils.rnn.pack_padded_sequence(x, counts.clamp(min=1).cpu(), True, enforce_sorted=False)
        made = nn.utils.rnn.pad_packed_sequence(layer(packed)[0], True, total_length=x.shape[1])[0]
    else:
        made = layer(x)[0]
    seen = mask.cumsum(1)
    places = [seen - 1, seen - mask.long()] if is_both else [seen - 1]
    ways: list[Tensor] = []
    for way, place in zip(made.chunk(len(places), -1), places, strict=True):
        is_known = (place >= 0) & (place < counts.unsqueeze(1))
        is_known = is_known & mask if has_zeros else is_known
        held = way.gather(1, place.clamp(0, x.shape[1] - 1).unsqueeze(-1).expand_as(way))
        ways.append(held.where(is_known.unsqueeze(-1), 0))
    return torch.cat(ways, -1)


def last_of_steps(layer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """The last outputs of both directions (B, 2 H) of a recurrent layer that skips padded steps, as `over_steps`."""
    ahead, back = over_steps(layer, x, mask).chunk(2, -1)
    return torch.cat([ahead[:, -1], back[:, 0]], -1)


def mean_of_steps(x: Tensor, mask: Tensor, *, keepdim: bool = False) -> Tensor:
    """The mean of a sequence (B, T, C) over the steps that count in the mask (B, T)."""
    counts = mask.unsqueeze(-1)
    return x.where(counts, 0).sum(1, keepdim=keepdim) / counts.sum(1, keepdim=keepdim)


class ResetBeforeGRU(nn.Module):
    """A GRU whose reset gate acts before the product with the state (`reset_after=False`), unlike `nn.GRU`.

    Args:
        input_size: The number of inputs I.
        hidden_size: The number of hidden units H.
        hard_sigmoid: Whether the gates use the hard sigmoid of Keras 2, its default until 2.2, instead of the sigmoid.
        state_bias: Whether there is a second bias, `bias_hh`, as in ONNX files; it is added to the first.

    References:
        Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, equation 8.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, hard_sigmoid: bool = False, state_bias: bool = False
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        bound = hidden_size**-0.5
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.zeros(3 * hidden_size)) if state_bias else None
        self.gate: Callable[[Tensor], Tensor] = OldHardSigmoid() if hard_sigmoid else nn.Sigmoid()

    def forward(self, x_BTI: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs (B, T, H) and the last state (B, H) for inputs (B, T, I)."""
        state = x_BTI.new_zeros(len(x_BTI), self.hidden_size)
        weight_zr, weight_n = self.weight_hh.split((2 * self.hidden_size, self.hidden_size))
        bias = self.bias if self.bias_hh is None else self.bias + self.bias_hh
        outputs: list[Tensor] = []
        for x_z, x_r, x_n in (step.chunk(3, -1) for step in F.linear(x_BTI, self.weight_ih, bias).unbind(1)):
            h_z, h_r = F.linear(state, weight_zr).chunk(2, -1)
            z, r = self.gate(x_z + h_z), self.gate(x_r + h_r)
            new = torch.tanh(x_n + F.linear(r * state, weight_n))
            state = z * state + (1 - z) * new
            outputs.append(state)
        return torch.stack(outputs, 1), state

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.input_size}, {self.hidden_size}"


class WideAttention(nn.Module):
    """Attention with any width of its heads, as in Keras; the width of values may differ from that of keys.

    In `nn.MultiheadAttention` the widths of all heads add up to the width of the input.

    Args:
        sizes: The widths of queries, keys, values and outputs, or one width for all four.
        num_heads: The number of heads.
        key_size: The width of queries and keys in one head.
        value_size: The width of values in one head; `key_size` by default.
        bias: Whether the four linear layers have a bias.

    Example:
        >>> import torch
        >>> layer = WideAttention(8, num_heads=2, key_size=8)
        >>> layer(*[torch.zeros(1, 5, 8)] * 3).shape
        torch.Size([1, 5, 8])
    """

    def __init__(
        self, sizes: Sizes, num_heads: int, key_size: int, value_size: int | None = None, *, bias: bool = True
    ) -> None:
        super().__init__()
        query, key, value, out = _sizes(sizes, 4)
        value_size = key_size if value_size is None else value_size
        self.num_heads = num_heads
        self.query = nn.Linear(query, num_heads * key_size, bias)
        self.key = nn.Linear(key, num_heads * key_size, bias)
        self.value = nn.Linear(value, num_heads * value_size, bias)
        self.attention_output = nn.Linear(num_heads * value_size, out, bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False, ignored: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, out) for query (B, T, ...), key and value (B, S, ...); `ignored` (B, S) is true at padding."""
        pairs = ((self.query, query), (self.key, key), (self.value, value))
        q, k, v = (layer(one).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer, one in pairs)
        allowed = None if ignored is None else ~ignored[:, None, None]
        if allowed is not None and is_causal:
            allowed = allowed & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        seen = F.scaled_dot_product_attention(q, k, v, allowed, is_causal=is_causal and allowed is None)
        return self.attention_output(seen.transpose(1, 2).flatten(2))
