"""Short vectors that stand for the output of a layer. Legend: B batch, C channels, H W map, T tokens, D features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

POOLING = "1"  # part of the recipe of pooled features: another way of pooling is another version
_GRID = 2  # a map is cut into so many parts along each axis
_INPUT_GRID = 8
_MOST_INPUTS = 4096  # features that stand for an input


def pooled(output: Tensor, num_samples: int, *, is_sequence: bool) -> tuple[Tensor, int] | None:
    """A vector per sample, float32 (B, D), and how many of its first entries are the mean, or all there is.

    Of a map (B, C, H, W), or with the channels last, the mean and those of a 2 x 2 grid; of tokens (B, T, C) the mean
    and the first token; of a sequence (B, C, T) the mean and its two halves; of a volume the mean; a vector as it is.

    Args:
        output: What a layer is given or gives; the batch is its first axis, or the second of three.
        num_samples: B.
        is_sequence: True if a tensor of three axes has its channels before its positions, as 1-d convolutions do.

    Returns:
        None if no axis follows the batch, or the values are not numbers with a fraction.
    """
    if not output.is_floating_point() or output.dim() == 0:
        return None
    if output.shape[0] != num_samples:
        if output.dim() != 3 or output.shape[1] != num_samples:
            return None
        output = output.transpose(0, 1)  # tokens first
    values = output.detach().float()
    if values.dim() == 1:
        values = values[:, None]
    if values.dim() == 2:
        return values, values.shape[1]
    if values.dim() == 3:
        return _of_tokens(values, is_sequence=is_sequence)
    if values.dim() == 4:
        return _of_map(values)
    mean_BC = values.flatten(2).mean(2)
    return mean_BC, mean_BC.shape[1]


def pooled_input(values: Tensor, *, has_one_size: bool = True) -> Tensor | None:
    """An input as a vector (B, D): images as an 8 x 8 grid of each channel; None for whole numbers, such as tokens.

    Where samples differ in size, D is the same for all: images have the whole grid, other inputs 64 features.
    """
    if not values.is_floating_point() or values.dim() < 2:
        return None
    values = values.detach().float()
    if values.dim() == 4:
        height, width = (min(_INPUT_GRID, length) if has_one_size else _INPUT_GRID for length in values.shape[2:])
        values = F.adaptive_avg_pool2d(values, (height, width))
    flat = values.flatten(1)
    if not has_one_size and values.dim() != 4:
        return F.adaptive_avg_pool1d(flat[:, None], _INPUT_GRID**2)[:, 0]
    return flat if flat.shape[1] <= _MOST_INPUTS else F.adaptive_avg_pool1d(flat[:, None], _MOST_INPUTS)[:, 0]


def _of_tokens(values: Tensor, *, is_sequence: bool) -> tuple[Tensor, int]:
    if is_sequence:
        parts = F.adaptive_avg_pool1d(values, min(_GRID, values.shape[2])).flatten(1)
        return torch.cat([values.mean(2), parts], 1), values.shape[1]
    return torch.cat([values.mean(1), values[:, 0]], 1), values.shape[2]


def _of_map(values: Tensor) -> tuple[Tensor, int]:
    is_last = values.shape[1] == values.shape[2] != values.shape[3]  # channels last
    map_BCHW = values.permute(0, 3, 1, 2) if is_last else values
    mean_BC = map_BCHW.mean((2, 3))
    height, width = (min(_GRID, length) for length in map_BCHW.shape[2:])
    if (height, width) == (1, 1):
        return mean_BC, mean_BC.shape[1]
    return torch.cat([mean_BC, F.adaptive_avg_pool2d(map_BCHW, (height, width)).flatten(1)], 1), mean_BC.shape[1]
