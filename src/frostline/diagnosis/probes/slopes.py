"""Gradients that are not the slope of what they are of: compared with differences, in double precision.

Of each `torch.autograd.Function` on its own, and of the output of the whole model along the weights of its modules.
"""

from __future__ import annotations

import copy
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation, weights_of
from frostline.diagnosis.rules.wiring_records import FunctionSlope, SlopeFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.diagnosis.experiments.batches import Batch

_STEP_OF_FUNCTION, _STEP_OF_MODEL = 1e-3, 1e-6  # of the size of what is moved
_DIRECTIONS = 3
_OFF, _FAR = 0.05, 0.2  # relative difference of a gradient that is wrong: of a function, and of a model
_FLAT, _JUMPS = 1e-3, 1e3  # of the gradient: what is rounded has no slope, or one that jumps
_CONSTANT = 0.9  # of the values stay where the input moves a little: steps, signs
_ROWS, _MOST_WEIGHTS = 16, 20_000_000  # of a batch, and of a model that is copied in double precision
_MOST_VALUES, _MOST_MODULES, _MOST_S = 1_000_000, 12, 2.0


def facts_of_slopes(
    model: nn.Module, start: dict[str, Tensor], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> SlopeFacts:
    """Own functions of autograd with a wrong backward, and modules whose gradient is not the slope of the output.

    What is rounded on purpose has no slope, and an identity with another gradient is one on purpose: both are left out.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        start: Its weights of before the training, by name: later ones may have run away.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    with weights_of(model, start):
        functions, count = _of_functions(model, batch, loss_fn)
        cut, asked = _of_modules(model, batch[0])
    return SlopeFacts(functions, cut, count + asked)


def _of_functions(
    model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[tuple[FunctionSlope, ...], int]:  # fmt: skip
    with evaluation(model), torch.enable_grad():
        classes = _classes_behind(loss_fn(batches.call(model, batch[0]), batch[1]))
        given: dict[type, tuple[str, tuple[Any, ...]]] = {}
        if classes:
            with _heard(model, classes, given):
                loss_fn(batches.call(model, batch[0]), batch[1])
        found = [_compared(kind, layer, values) for kind, (layer, values) in given.items()]
    return tuple(one for one in found if one is not None), len(given)


def _classes_behind(loss: Tensor) -> set[type]:
    """Of the own functions of autograd behind a loss."""
    found, seen, waiting = set[type](), set[Any](), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kind = getattr(node, "_forward_cls", None)
        if isinstance(kind, type) and not kind.__module__.startswith("torch."):
            found.add(kind)
        waiting += [one for one, _ in node.next_functions]
    return found


@contextmanager
def _heard(
    model: nn.Module, classes: set[type], given: dict[type, tuple[str, tuple[Any, ...]]]
) -> Generator[None]:  # fmt: skip
    """What the forward of each of these gets, and in which module."""
    inside: list[str] = []
    hooks: list[Any] = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, name=name: inside.append(name)))
        hooks.append(module.register_forward_hook(lambda *_: inside.__delitem__(-1), always_call=True))
    own = {kind: kind.__dict__.get("forward") for kind in classes}
    try:
        for kind in classes:
            kind.forward = staticmethod(_listening(kind, kind.forward, given, inside))  # type: ignore[attr-defined]
        yield
    finally:
        for kind, forward in own.items():
            if forward is None:
                del kind.forward  # type: ignore[attr-defined]
            else:
                kind.forward = forward  # type: ignore[attr-defined]
        for hook in hooks:
            hook.remove()


def _listening(
    kind: type, forward: Any, given: dict[type, tuple[str, tuple[Any, ...]]], inside: list[str]
) -> Callable[..., Any]:  # fmt: skip
    has_context = kind.setup_context is torch.autograd.Function.setup_context  # type: ignore[attr-defined]

    def hear(*args: Any) -> Any:
        values = args[1:] if has_context else args
        given.setdefault(kind, (inside[-1] if inside else "", values))
        return forward(*args)

    return hear


def _compared(kind: Any, layer: str, values: tuple[Any, ...]) -> FunctionSlope | None:
    """The first input along which its backward is not the slope of its forward; None without one."""
    doubles = [
        one.detach().double().clone() if isinstance(one, Tensor) and one.is_floating_point() else one for one in values
    ]
    places = [
        at for at, one in enumerate(values)
        if isinstance(one, Tensor) and one.is_floating_point() and one.requires_grad and one.numel() <= _MOST_VALUES
    ]  # fmt: skip
    try:
        for at in places:
            found = _compared_at(kind, doubles, at)
            if found is not None:
                return FunctionSlope(kind.__name__, layer, *found)
    except FOREIGN:
        return None  # it takes no double precision
    return None


def _compared_at(kind: Any, doubles: list[Any], at: int) -> tuple[float, float] | None:
    """(slope by its backward, by differences) where these differ in all directions that were tried."""
    leaf = doubles[at].clone().requires_grad_()

    def result(value: Tensor) -> Tensor:
        seed_generators(0)
        made = kind.apply(*doubles[:at], value, *doubles[at + 1 :])
        return next(one for one in (made if isinstance(made, tuple) else (made,)) if one.is_floating_point())

    pairs: list[tuple[float, float]] = []
    size = float(leaf.detach().square().mean().sqrt()) or 1.0
    for seed in range(_DIRECTIONS):
        generator = torch.Generator().manual_seed(seed)
        output = result(leaf)
        if output.shape == leaf.shape and torch.equal(output.detach(), leaf.detach()):
            return None
        weight = torch.randn(output.shape, generator=generator).to(output)
        (slope,) = torch.autograd.grad((weight * output).sum(), leaf, materialize_grads=True, allow_unused=True)
        along = torch.randn(leaf.shape, generator=generator).to(leaf.detach())
        step = _STEP_OF_FUNCTION * size
        with torch.no_grad():
            ahead, behind = result(leaf + step * along), result(leaf - step * along)
        if float((ahead == behind).double().mean()) > _CONSTANT:
            return None
        pairs.append((float((slope * along).sum()), float((weight * (ahead - behind)).sum()) / (2 * step)))
    size = math.sqrt(sum(other**2 for _, other in pairs))
    error = math.sqrt(sum((own - other) ** 2 for own, other in pairs))
    if not math.isfinite(error) or size == 0 or error <= _OFF * size:
        return None
    return max(pairs, key=lambda pair: abs(pair[0] - pair[1]))


def _of_modules(model: nn.Module, inputs: Any) -> tuple[tuple[tuple[str, float], ...], int]:
    """(module, gradient over slope) of modules along whose gradient the output changes by another amount than it says.

    What moves an output is asked of a random weighing of all its values.
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
        step = _STEP_OF_MODEL * size / math.sqrt(given)
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
