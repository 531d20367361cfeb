"""Numbers of one layer's output, left on the device until somebody reads them.

Legend: B batch, U units, N values of a unit (samples times places).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from frostline.health.layers import RECTIFIERS

# A layer is judged by at most so many values: what a sample costs does not grow with the size of the images. With
# 65,536 values of 64 units each unit is seen 1,000 times.
_MAX_VALUES = 2**16
_FLAT = 0.01  # of the steepest slope: a unit below it hardly trains


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that a module gives, the first where it gives several; None if it gives no floats, or one number."""
    while isinstance(output, (tuple, list)) and output:  # a packed sequence is a tuple, too
        output = output[0]
    if not isinstance(output, Tensor) or output.layout is not torch.strided or output.dim() == 0:
        return None
    return output if output.is_floating_point() and output.numel() else None


def units_of(output: Tensor, *, is_channels_first: bool) -> Tensor:
    """Values by unit, (N, U): channels come second after convolutions, last elsewhere. Large ones are thinned."""
    values = output.detach()
    if values.dim() == 1:
        return values[:, None]
    if is_channels_first and values.dim() > 2:
        values = values.movedim(1, -1)
    values = values.reshape(-1, values.shape[-1])
    step = -(-values.numel() // _MAX_VALUES)
    values = values[::step] if step > 1 else values
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def moments(values_NU: Tensor) -> Tensor:
    """(mean, standard deviation, share of constant units) as one tensor."""
    deviation, mean = torch.std_mean(values_NU, dim=0, correction=0)
    total = (deviation.square().mean() + mean.var(correction=0)).sqrt()
    constant = (deviation <= 1e-6 * (mean.abs() + total)).to(values_NU.dtype).mean()
    return torch.stack([mean.mean(), total, constant])


def is_active(values_NU: Tensor) -> Tensor:
    """(U,) True where a rectifier let something through."""
    return (values_NU > 0).any(dim=0)


def saturation(values_NU: Tensor, activation: str) -> Tensor | None:
    """Share of (value, unit) pairs where the function is flat, by its output; None if it has no flat ends."""
    if activation == "tanh":
        slope = 1.0 - values_NU.square()
    elif activation == "sigmoid":
        slope = 4.0 * values_NU * (1.0 - values_NU)
    else:
        return None
    return (slope < _FLAT).to(values_NU.dtype).mean()


def can_die(activation: str) -> bool:
    """True for rectifiers: a unit that is zero for every sample gets no gradient."""
    return activation in RECTIFIERS
