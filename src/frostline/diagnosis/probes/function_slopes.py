"""Own functions of autograd whose backward is not the slope of their forward, in double precision."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.differences import DIRECTIONS, slope_along
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import FunctionSlope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.diagnosis.experiments.batches import Batch

_STEP = 1e-3  # of the size of what is moved
_OFF = 0.05  # relative difference of a gradient that is wrong
_CONSTANT = 0.9  # of the values stay where the input moves a little: steps, signs
_MOST_VALUES = 1_000_000


def function_slopes(
    model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[tuple[FunctionSlope, ...], int]:  # fmt: skip
    """(those with a wrong backward, how many were asked).

    What is rounded on purpose has no slope, and an identity with another gradient is one on purpose: both are left out.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    with evaluation(model), torch.enable_grad():
        classes = _classes_behind(loss_fn(batches.call(model, batch[0]), batch[1]))
        given: dict[type, tuple[str, tuple[Any, ...]]] = {}
        if classes:
            with _listened(model, classes, given):
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
def _listened(
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

    def weighed(value: Tensor) -> Tensor:
        made = result(value)
        return (torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made) * made).sum()

    here, step = result(leaf).detach(), _STEP * (float(leaf.detach().square().mean().sqrt()) or 1.0)
    is_identity = here.shape == leaf.shape and torch.equal(here, leaf.detach())
    with torch.no_grad():
        moved = result(leaf.detach() + step * torch.ones_like(leaf))
    if is_identity or float((here == moved).double().mean()) > _CONSTANT:
        return None
    pairs = [slope_along(weighed, leaf, step, seed) for seed in range(1, DIRECTIONS + 1)]
    size = math.sqrt(sum(other**2 for _, other in pairs))
    error = math.sqrt(sum((own - other) ** 2 for own, other in pairs))
    if not math.isfinite(error) or size == 0 or error <= _OFF * size:
        return None
    return max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
