"""The weights of a layer and the BatchNorm behind it as one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def merge_after(layer: nn.Module, norm: Any) -> tuple[Tensor, Tensor]:
    """(weight, bias) in float64 of a linear or convolution layer followed by the norm in inference mode."""
    scale_C, shift_C = affine(norm)
    weight, bias_O = wide(layer)
    if getattr(layer, "transposed", False):  # (I, O/G, K...): the outputs of group g are scaled in its inputs' rows
        groups = int(layer.groups)  # type: ignore[arg-type]
        by_group = weight.reshape(groups, -1, *weight.shape[1:])
        scale = scale_C.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
        merged = (by_group * scale).reshape(weight.shape)
    else:
        merged = weight * scale_C.reshape(-1, *[1] * (weight.dim() - 1))
    return merged, bias_O * scale_C + shift_C


def affine(norm: Any) -> tuple[Tensor, Tensor]:
    """(scale, shift) per channel of a BatchNorm in inference mode."""
    variance_C, mean_C = norm.running_var.detach().double(), norm.running_mean.detach().double()
    scale_C = (variance_C + norm.eps).rsqrt()
    if norm.weight is not None:
        scale_C = scale_C * norm.weight.detach().double()
    shift_C = -mean_C * scale_C
    return scale_C, shift_C if norm.bias is None else shift_C + norm.bias.detach().double()


def wide(layer: Any) -> tuple[Tensor, Tensor]:
    """(weight, bias) of a layer in float64; zeros where it has no bias."""
    weight = layer.weight.detach().double()
    outputs = weight.shape[0]
    if getattr(layer, "transposed", False):
        outputs = weight.shape[1] * layer.groups
    if layer.bias is None:
        return weight, torch.zeros(outputs, dtype=torch.float64, device=weight.device)
    return weight, layer.bias.detach().double()


def is_batchnorm_with_activation(norm: nn.Module) -> bool:
    """True for timm's BatchNorm that drops and activates in itself."""
    return type(norm).__module__.startswith("timm.") and set(dict(norm.named_children())) == {"drop", "act"}
