"""Numbers of the outputs of many layers at once, left on the device until they are read.

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
from functools import lru_cache, reduce
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from frostline.core.tracing import is_in_transform
from frostline.diagnosis.monitor.layers import RECTIFIERS

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_UNITS, _MAX_VALUES = 64, 64 * 64
_BLOCK = 16  # units: a cache line of floats
_WINDOW = 5  # sampled steps over which a unit must be silent to count as dead
_CONSTANT = 4e-6  # range over size: what rounding leaves, four deviations of 1e-6
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
    """The tensor that a module gives, the first where it gives several; None if it gives no floats, or one number.

    Inside of a transform of torch.func (torch.vmap) there are no values to read: None.
    """
    while isinstance(output, (tuple, list)) and output:  # a packed sequence is a tuple, too
        output = output[0]
    if not isinstance(output, Tensor) or output.layout is not torch.strided or output.dim() == 0:
        return None
    if is_in_transform(output):
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
    chosen = _chosen(values.shape, values.device)
    if chosen.places is None and chosen.units is not None:
        units = values.index_select(-1, chosen.units)
        return units if units.dim() == 2 else units.view(-1, _MAX_UNITS)
    num_units = min(_MAX_UNITS, values.shape[-1])
    if chosen.units is not None:
        *strides, stride = values.stride()
        size, strides = (*values.shape[:-1], _MAX_UNITS // _BLOCK, _BLOCK), (*strides, chosen.gap * stride, stride)
        values = values.as_strided(size, strides)
    if chosen.places is not None:
        values = values[chosen.places]
    units = values.reshape(-1, num_units)
    return units.clone() if units.data_ptr() == output.data_ptr() else units  # the next layer may work in place


@dataclass(frozen=True)
class _Chosen:
    """What is looked at of an output: all, where None.

    Attributes:
        units: Their positions.
        gap: Units from one block to the next.
        places: An index for each axis before the last.
    """

    units: Tensor | None
    gap: int
    places: tuple[Tensor, ...] | None


@lru_cache(maxsize=128)
def _chosen(shape: tuple[int, ...], device: torch.device) -> _Chosen:
    *places, num_units = shape
    units, gap = None, 0
    if num_units > _MAX_UNITS:
        num_blocks = _MAX_UNITS // _BLOCK
        gap, num_units = (num_units - _BLOCK) // (num_blocks - 1), _MAX_UNITS
        blocks = [range(start, start + _BLOCK) for start in range(0, num_blocks * gap, gap)]
        units = torch.tensor(blocks, device=device).flatten()
    num_places = math.prod(places)
    step = -(-num_places * num_units // _MAX_VALUES)
    # The step shares no divisor with an axis: all rows of images and all positions of a sequence are met.
    while step > 1 and math.gcd(step, num_places) > 1:
        step += 1
    at = torch.arange(0, num_places, step, device=device)
    return _Chosen(units, gap, torch.unravel_index(at, places) if step > 1 else None)


def measure(values_ONU: Tensor, owners: tuple[Owner, ...], activation: str, silence: Silence) -> Table:
    """Mean, deviation and share of constant units; of dead units or flat ends, if the activation has them.

    Values are scaled to 1 and centred before they are squared: no square is too large, and no mean too far away.

    Args:
        values_ONU: Outputs in float32 or wider; they are lost.
        owners: Whose they are; those of earlier steps come first.
        activation: Of all of them, or "".
        silence: Of the steps before.
    """
    high_OU, low_OU = values_ONU.amax(dim=1), values_ONU.amin(dim=1)
    fields: dict[str, Tensor] = {}
    if can_die(activation):
        fields["dead"] = silence.dead(high_OU, owners).to(values_ONU.dtype).mean(dim=1)
    elif can_saturate(activation):
        fields["saturated"] = saturation(values_ONU, activation)
    size_OU = torch.maximum(high_OU, -low_OU)
    size_O1 = size_OU.amax(dim=1, keepdim=True).clamp_min_(torch.finfo(values_ONU.dtype).tiny)
    values_ON = values_ONU.flatten(1).mul_(size_O1.reciprocal())
    mean_O1 = values_ON.mean(dim=1, keepdim=True)
    norm_O1 = torch.linalg.vector_norm(values_ON.sub_(mean_O1), dim=1, keepdim=True)
    deviation_O1 = norm_O1.mul_(size_O1 / values_ON.shape[1] ** 0.5)
    is_constant_OU = high_OU - low_OU <= _CONSTANT * (size_OU + deviation_O1)
    fields |= {"mean": (mean_O1 * size_O1)[:, 0], "deviation": deviation_O1[:, 0]}
    fields["constant"] = is_constant_OU.to(values_ONU.dtype).mean(dim=1)
    return Table(owners, tuple(fields), torch.stack([*fields.values()]))


def saturation(values_ONU: Tensor, activation: str) -> Tensor:
    """(O,) the share of values where the slope of the function, by its output, is below 1% of the steepest."""
    centre = _CENTRES[activation]
    # 1 - y^2 for tanh; 4 y (1 - y) = 1 - (2 y - 1)^2 for the sigmoid
    highest = (1.0 - _FLAT) ** 0.5 * (1.0 - centre)
    return ((values_ONU - centre).abs_() > highest).to(values_ONU.dtype).mean(dim=(1, 2))


class Silence:
    """Knows in which of the last sampled steps a unit of a rectifier has given nothing. Legend: K steps, L layers."""

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}  # (window - 1, U), by layer

    def dead(self, high_OU: Tensor, owners: Sequence[Owner]) -> Tensor:
        """(O, U) true for units that were silent in all of the last five sampled steps, or in all there were.

        Args:
            high_OU: The largest value of each unit in its step. What is not a number is not silent.
            owners: Whose; those of earlier steps come first.
        """
        silent_OU = high_OU <= 0
        steps = [tuple(name for _, name in step) for _, step in groupby(owners, key=lambda owner: owner[0])]
        dead: list[Tensor] = []
        at = 0
        for names, run in groupby(steps):
            size = len(names) * len(list(run))
            now_KLU = silent_OU[at : at + size].unflatten(0, (-1, len(names)))
            known_KLU = torch.cat([torch.stack([self._known(name, now_KLU[0, 0]) for name in names], dim=1), now_KLU])
            self._before.update(zip(names, known_KLU[1 - _WINDOW :].unbind(1), strict=True))
            windows = [known_KLU[first : first + len(now_KLU)] for first in range(_WINDOW)]
            dead.append(reduce(torch.logical_and, windows).flatten(0, 1))
            at += size
        return torch.cat(dead)

    def _known(self, name: str, like_U: Tensor) -> Tensor:
        known = self._before.get(name)
        if known is None or known.shape[1] != len(like_U) or known.device != like_U.device:
            return like_U.new_ones(_WINDOW - 1, len(like_U))  # it was never heard
        return known


def can_die(activation: str) -> bool:
    """True for rectifiers: a unit that is zero for every sample gets no gradient."""
    return activation in RECTIFIERS


def can_saturate(activation: str) -> bool:
    """True for functions with flat ends."""
    return activation in _CENTRES
