"""Gradients that are not the slope of what they are of: compared with differences, in double precision.

Of each `torch.autograd.Function` on its own, and of the output of the whole model along the weights of its modules.
"""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation, weights_of
from frostline.diagnosis.probes.function_slopes import function_slopes
from frostline.diagnosis.rules.wiring_records import SlopeFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

_STEP = 1e-6  # of the size of the weights that are moved
_OFF, _FAR = 0.05, 0.2  # relative difference of two steps' slopes, and of a gradient that is wrong
_FLAT, _JUMPS = 1e-3, 1e3  # of the gradient: what is rounded has no slope, or one that jumps
_ROWS, _MOST_WEIGHTS = 16, 20_000_000  # of a batch, and of a model that is copied in double precision
_MOST_MODULES, _MOST_S = 12, 2.0


def facts_of_slopes(
    model: nn.Module, start: dict[str, Tensor], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> SlopeFacts:
    """Own functions of autograd with a wrong backward, and modules whose gradient is not the slope of the output.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        start: Its weights of before the training, by name: later ones may have run away.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    with weights_of(model, start):
        functions, count = function_slopes(model, batch, loss_fn)
        cut, asked = _module_slopes(model, batch[0])
    return SlopeFacts(functions, cut, count + asked)


def _module_slopes(model: nn.Module, inputs: Any) -> tuple[tuple[tuple[str, float], ...], int]:
    """(module, gradient over slope) where the output changes by another amount; and how many modules were asked.

    What moves an output is asked of a random weighing of all its values, of a copy in double precision.
    """
    if sum(one.numel() for one in model.parameters()) > _MOST_WEIGHTS:
        return (), 0
    try:
        own = copy.deepcopy(model).double()
        some = batches.rows(inputs, slice(0, _ROWS))
        given = batches.map_tensors(some, lambda one: one.detach().double() if one.is_floating_point() else one)
        with evaluation(own):
            return _moved_modules(own, given)
    except (*FOREIGN, StopIteration):
        return (), 0


def _moved_modules(model: nn.Module, inputs: Any) -> tuple[tuple[tuple[str, float], ...], int]:
    def total() -> Tensor:
        seed_generators(0)
        parts = [one for one in batches.leaves(batches.call(model, inputs)).values() if one.is_floating_point()]
        generator = torch.Generator().manual_seed(1)
        return torch.stack(
            [(one * torch.randn(one.shape, generator=generator).to(one)).sum() for one in parts if one.requires_grad
             or not torch.is_grad_enabled()]
        ).sum()  # fmt: skip

    with torch.enable_grad():
        here = total()
    groups = {
        name: [one for one in module.parameters(recurse=False) if one.requires_grad]
        for name, module in model.named_modules()
    }  # fmt: skip
    groups = {name: several for name, several in groups.items() if several}
    every = [one for several in groups.values() for one in several]
    every_slope: list[Tensor | None] = [*torch.autograd.grad(here, every, allow_unused=True)]
    slopes = dict(zip(map(id, every), every_slope, strict=True))
    found: list[tuple[str, float]] = []
    asked, started = 0, time.thread_time()
    for name in list(groups)[:: max(1, len(groups) // _MOST_MODULES)]:
        pairs = [(one, slopes[id(one)]) for one in groups[name]]
        along = [(one, slope) for one, slope in pairs if slope is not None]
        given = sum(float(slope.square().sum()) for _, slope in along)
        if not 0 < given < math.inf or time.thread_time() - started > _MOST_S:
            continue
        asked += 1
        size = math.sqrt(sum(float(one.detach().square().sum()) for one, _ in along)) or 1.0
        step = _STEP * size / math.sqrt(given)
        measured, nearer = (_slope(along, one, total) for one in (step, step / 10))
        is_rounded = abs(measured) < _FLAT * given or abs(measured) > _JUMPS * given
        is_steady = abs(measured - nearer) <= _OFF * max(abs(measured), abs(nearer))  # else there are kinks on the way
        if (
            math.isfinite(measured)
            and is_steady
            and not is_rounded
            and abs(measured - given) > _FAR * max(abs(measured), given)
        ):
            found.append((name, given / measured))
    return tuple(found), asked


@torch.no_grad()
def _slope(along: list[tuple[nn.Parameter, Tensor]], step: float, total: Callable[[], Tensor]) -> float:
    """Of the output along a direction, by differences."""
    ahead, behind = (_at(along, sign * step, total) for sign in (1.0, -1.0))
    return (ahead - behind) / (2 * step)


def _at(along: list[tuple[nn.Parameter, Tensor]], step: float, total: Callable[[], Tensor]) -> float:
    """The output with these weights moved by a step."""
    kept = [one.detach().clone() for one, _ in along]
    try:
        for one, slope in along:
            one.add_(slope, alpha=step)
        return float(total())
    finally:
        for (one, _), value in zip(along, kept, strict=True):
            one.copy_(value)
