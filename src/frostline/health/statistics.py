"""Numbers of one layer's output, left on the device until somebody reads them.

Legend: B batch, U units, N values of a unit (samples times places), P places. Leading axes "..." are layers of the same
shape that are measured at once: an operation costs some microseconds, however little it is given.
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
    step = -(-values.numel() // _MAX_VALUES)
    if is_channels_first and values.dim() > 2:
        values = _every(values.flatten(2), step)
    elif values.dim() > 2 or step > 1:
        values = values.reshape(-1, values.shape[-1])[::step]
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _every(values_BUP: Tensor, step: int) -> Tensor:
    """Each step-th of the B * P values of a unit, (N, U); only these are moved in memory."""
    batch, units, places = values_BUP.shape
    if places % step == 0:
        return values_BUP[:, :, ::step].movedim(1, -1).reshape(-1, units)
    at_N = torch.arange(0, batch * places, step, device=values_BUP.device)
    return values_BUP[at_N // places, :, at_N % places]


def moments(values_NU: Tensor, *, in_place: bool = False) -> Tensor:
    """(mean, standard deviation, share of constant units) in the last axis; of (..., N, U) for each of these.

    Args:
        values_NU: What a layer gave.
        in_place: Use the memory of the values, which are lost.
    """
    high_U, low_U, mean_1U = values_NU.amax(dim=-2), values_NU.amin(dim=-2), values_NU.mean(dim=-2, keepdim=True)
    # The mean of equal values is off by a rounding, which over a range of zero would be infinitely far.
    mean_1U = mean_1U.clamp(low_U.unsqueeze(-2), high_U.unsqueeze(-2))
    # torch.std runs over this axis twenty times as slowly as two plain passes; scaled, no square is too large.
    scale_1U = (high_U - low_U).clamp_min_(torch.finfo(values_NU.dtype).tiny).unsqueeze(-2)
    parts_NU = torch.sub(values_NU, mean_1U, out=values_NU if in_place else None).div_(scale_1U).square_()
    deviation_U = (scale_1U * parts_NU.mean(dim=-2, keepdim=True).sqrt_()).squeeze(-2)
    mean_U = mean_1U.squeeze(-2)
    variance, mean = torch.var_mean(mean_U, dim=-1, correction=0)
    total = (deviation_U.square().mean(dim=-1) + variance).sqrt_()
    constant = (deviation_U <= 1e-6 * (mean_U.abs() + total.unsqueeze(-1))).to(values_NU.dtype).mean(dim=-1)
    return torch.stack([mean, total, constant], dim=-1)


def is_active(values_NU: Tensor) -> Tensor:
    """(..., U) True where a rectifier let something through; what is not a number is not silent."""
    return ~(values_NU.amax(dim=-2) <= 0)


def saturation(values_NU: Tensor, activation: str) -> Tensor | None:
    """Share of (value, unit) pairs where the function is flat, by its output; None if it has no flat ends."""
    if activation == "tanh":
        slope = 1.0 - values_NU.square()
    elif activation == "sigmoid":
        slope = 4.0 * values_NU * (1.0 - values_NU)
    else:
        return None
    return (slope < _FLAT).to(values_NU.dtype).mean(dim=(-2, -1))


def can_die(activation: str) -> bool:
    """True for rectifiers: a unit that is zero for every sample gets no gradient."""
    return activation in RECTIFIERS


def can_saturate(activation: str) -> bool:
    """True for functions with flat ends."""
    return activation in ("tanh", "sigmoid")
