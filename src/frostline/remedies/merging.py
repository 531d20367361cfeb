"""The arithmetic of folding a BatchNorm into a linear or convolution layer, in float64.

Legend: C channels of the BatchNorm, O outputs and I inputs of the layer, K kernel axes, G groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def merge_after(layer: nn.Module, norm: Any) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the layer followed by the norm."""
    scale_C, shift_C = _affine(norm)
    weight, bias_O = _wide(layer)
    if getattr(layer, "transposed", False):  # (I, O/G, K...): the outputs of group g are scaled in its inputs' rows
        groups = int(layer.groups)  # type: ignore[arg-type]
        by_group = weight.reshape(groups, -1, *weight.shape[1:])
        scale = scale_C.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
        merged = (by_group * scale).reshape(weight.shape)
    else:
        merged = weight * scale_C.reshape(-1, *[1] * (weight.dim() - 1))
    return merged, bias_O * scale_C + shift_C


def merge_before(norm: Any, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the norm followed by the layer; exact only where nothing is padded with zeros."""
    scale_C, shift_C = _affine(norm)
    weight, bias_O = _wide(layer)
    groups = int(getattr(layer, "groups", 1))
    kernel = [1] * (weight.dim() - 2)
    scale = scale_C.reshape(groups, 1, -1, *kernel)
    shift = shift_C.reshape(groups, 1, -1, *kernel)
    by_group = weight.reshape(groups, -1, *weight.shape[1:])  # (G, O/G, I/G, K...)
    added_O = (by_group * shift).flatten(2).sum(2).reshape(-1)
    return (by_group * scale).reshape(weight.shape), bias_O + added_O


def write(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Put the merged values into the layer; it gains a bias if it had none."""
    own: Any = layer.weight
    with torch.no_grad():
        own.copy_(weight)
        if layer._parameters.get("bias") is None:
            made = torch.empty(bias.shape, dtype=own.dtype, device=own.device)
            layer._parameters["bias"] = nn.Parameter(made, requires_grad=own.requires_grad)
        layer._parameters["bias"].copy_(bias)  # type: ignore[union-attr]


def _affine(norm: Any) -> tuple[Tensor, Tensor]:
    """(scale, shift) per channel of a BatchNorm in inference mode."""
    variance_C, mean_C = norm.running_var.detach().double(), norm.running_mean.detach().double()
    scale_C = (variance_C + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_C = scale_C * norm.weight.detach().double()
    shift_C = -mean_C * scale_C
    return scale_C, shift_C if norm.bias is None else shift_C + norm.bias.detach().double()


def _wide(layer: Any) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach().double()
    outputs = weight.shape[0]
    if getattr(layer, "transposed", False):
        outputs = weight.shape[1] * layer.groups
    if layer.bias is None:
        return weight, torch.zeros(outputs, dtype=torch.float64, device=weight.device)
    return weight, layer.bias.detach().double()
