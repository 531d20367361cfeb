"""Numbers of the outputs of many layers at once, left on the device until somebody reads them.

Legend: N values of a unit (samples times places), U units of a layer. An operation costs some microseconds however
little it is given, so outputs of the same shape, of several layers and steps, are measured together: O of them.

How much is looked at: up to 64 units of a layer, in blocks from all over it, and up to 4,096 of their values, from all
over the batch; smaller outputs are measured whole. The standard errors are at most

* of a deviation 1/sqrt(2 * 64) = 9%, if all units of a sample move together, and 1.1% if each moves on its own; the
  rules compare deviations with limits that are factors of 4 and more apart;
* of a share of units (dead, saturated, constant) sqrt(0.25 / 64) = 6%; shares are judged at 20% to 50%;
* a unit that is active for a share p of the values counts as silent in five steps with (1 - p)^(5 * 64): 4% at
  p = 0.01, 1e-7 at p = 0.05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from frostline.health.layers import RECTIFIERS

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_UNITS, _MAX_VALUES = 64, 64 * 64
_BLOCK = 16  # units: a cache line of floats
_WINDOW = 5  # sampled steps over which a unit must be silent to count as dead
_CONSTANT = 1e-6  # of a unit's size: what rounding leaves
_FLAT = 0.01  # of the steepest slope: a unit below it hardly trains
_CENTRES = {"tanh": 0.0, "sigmoid": 0.5}


Owner: TypeAlias = tuple[int, str]


@dataclass(frozen=True)
class Table:
    """Numbers on the device: `values[f, l]` is field f of owner l, which is (position in a run of samples, layer)."""

    owners: tuple[Owner, ...]
    fields: tuple[str, ...]
    values: Tensor


def first_tensor(output: Any) -> Tensor | None:
    """The tensor that a module gives, the first where it gives several; None if it gives no floats, or one number."""
    while isinstance(output, (tuple, list)) and output:  # a packed sequence is a tuple, too
        output = output[0]
    if not isinstance(output, Tensor) or output.layout is not torch.strided or output.dim() == 0:
        return None
    return output if output.is_floating_point() and output.numel() else None


def units_of(output: Tensor, *, is_channels_first: bool) -> Tensor:
    """A copy of some values by unit, (N, U): all of them if there are few.

    Args:
        output: What a layer gave.
        is_channels_first: Channels come second after convolutions, last elsewhere.
    """
    values = output.detach()
    if values.dim() == 1:
        values = values[:, None]
    elif is_channels_first and values.dim() > 2:
        values = values.movedim(1, -1)
    places = values.shape[:-1]
    size, stride, step, num_units = _thinning(values.shape, values.stride())
    if size is not None:
        values = values.as_strided(size, stride)
    if step > 1:
        values = values[_places(places, step, values.device)]
    units = values.reshape(-1, num_units)
    return units.clone() if units.data_ptr() == output.data_ptr() else units  # the next layer may work in place


@lru_cache(maxsize=256)
def _thinning(shape: tuple[int, ...], stride: tuple[int, ...]) -> tuple[Any, Any, int, int]:
    """(size and stride of a view of fewer units, or None, steps from one place to the next, units)."""
    *places, units = shape
    size = strides = None
    if units > _MAX_UNITS:
        num_blocks = _MAX_UNITS // _BLOCK
        gap, units = (units - _BLOCK) // (num_blocks - 1), _MAX_UNITS
        size = (*places, num_blocks, _BLOCK)
        strides = (*stride[:-1], gap * stride[-1], stride[-1])
    step, num_places = -(-math.prod(places) * units // _MAX_VALUES), math.prod(places)
    # The step shares no divisor with an axis: all rows of images and all positions of a sequence are met.
    while step > 1 and math.gcd(step, num_places) > 1:
        step += 1
    return size, strides, step, units


@lru_cache(maxsize=64)
def _places(shape: tuple[int, ...], step: int, device: torch.device) -> tuple[Tensor, ...]:
    """Every step-th place, as an index for each axis."""
    return torch.unravel_index(torch.arange(0, math.prod(shape), step, device=device), shape)


def measure(values_ONU: Tensor, owners: tuple[Owner, ...], activation: str, silence: Silence) -> Table:
    """Mean, deviation and share of constant units; of dead units or flat ends, if the activation has them.

    In float64 the difference of mean square and squared mean is good to 1e-8 of the mean, and no square is too large.

    Args:
        values_ONU: Outputs in float64; they are lost.
        owners: Whose they are; those of earlier steps come first.
        activation: Of all of them, or "".
        silence: Of the steps before.
    """
    fields: dict[str, Tensor] = {}
    if can_die(activation):
        fields["dead"] = silence.dead(values_ONU.amax(dim=1), owners).mean(dim=1)
    elif can_saturate(activation):
        fields["saturated"] = saturation(values_ONU, activation)
    mean_OU = values_ONU.mean(dim=1)
    power_OU = values_ONU.square_().mean(dim=1)
    mean_O = mean_OU.mean(dim=1)
    deviation_O = (power_OU.mean(dim=1) - mean_O.square()).clamp_min_(0.0).sqrt_()
    variance_OU = power_OU - mean_OU.square()
    limit_OU = mean_OU.abs().add_(deviation_O[:, None]).mul_(_CONSTANT).square_()
    fields |= {"mean": mean_O, "deviation": deviation_O, "constant": (variance_OU <= limit_OU).double().mean(dim=1)}
    return Table(owners, tuple(fields), torch.stack([*fields.values()]))


def saturation(values_ONU: Tensor, activation: str) -> Tensor:
    """(O,) the share of values where the slope of the function, by its output, is below 1% of the steepest."""
    centre = _CENTRES[activation]
    # 1 - y^2 for tanh; 4 y (1 - y) = 1 - (2 y - 1)^2 for the sigmoid
    highest = (1.0 - _FLAT) ** 0.5 * (1.0 - centre)
    return ((values_ONU - centre).abs_() > highest).double().mean(dim=(1, 2))


class Silence:
    """Knows for how many sampled steps in a row each unit of a rectifier has given nothing."""

    def __init__(self) -> None:
        self.num_silent: dict[str, Tensor] = {}

    def dead(self, high_OU: Tensor, owners: Sequence[Owner]) -> Tensor:
        """(O, U) 1 for units that were silent in all of the last five sampled steps, or in all there were.

        Args:
            high_OU: The largest value of each unit in its step. What is not a number is not silent.
            owners: Whose; those of earlier steps come first.
        """
        silent_OU = (high_OU <= 0).double()
        counts: list[Tensor] = []
        at, names, now_LU = 0, (), silent_OU
        for _, step in groupby(owners, key=lambda owner: owner[0]):
            own = tuple(name for _, name in step)
            if own != names:
                self._keep(names, now_LU)
                names, now_LU = own, torch.stack([self._before(name, silent_OU[0]) for name in own])
            now_LU = (now_LU + 1.0) * silent_OU[at : at + len(own)]
            counts.append(now_LU)
            at += len(own)
        self._keep(names, now_LU)
        return (torch.cat(counts) >= _WINDOW).double()

    def _keep(self, names: Sequence[str], num_silent_LU: Tensor) -> None:
        self.num_silent.update(zip(names, num_silent_LU, strict=False))

    def _before(self, name: str, like_U: Tensor) -> Tensor:
        known = self.num_silent.get(name)
        if known is None or known.shape != like_U.shape or known.device != like_U.device:
            return torch.full_like(like_U, _WINDOW)  # it was never heard
        return known


def can_die(activation: str) -> bool:
    """True for rectifiers: a unit that is zero for every sample gets no gradient."""
    return activation in RECTIFIERS


def can_saturate(activation: str) -> bool:
    """True for functions with flat ends."""
    return activation in _CENTRES
