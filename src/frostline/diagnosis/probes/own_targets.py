"""Targets that a network makes for itself: by the weights that it trains, or by a copy of them that never follows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.differences import DIRECTIONS, slope_along
from frostline.diagnosis.probes.evaluation_pass import evaluation, weights_of
from frostline.diagnosis.probes.output_range import parts_of
from frostline.diagnosis.rules.loss_records import OwnTargets

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

    Loss = Callable[[Any, Any], Tensor]

_CHANGED, _FACTOR, _SHIFT = 1e-5, 1.1, 0.01  # relative change of a loss; what weights and outputs are changed by
_STEP, _OFF = 1e-6, 1e-2  # of the outputs' size, and of the slope
_FEWEST = 16  # weights of a copy: smaller ones may be alike by chance


def copies_at_first(model: nn.Module) -> dict[str, str]:
    """(copy: source) of the outermost modules that do not train, and hold the very values of another one that does.

    Args:
        model: Before training.
    """
    named = {name: module for name, module in model.named_modules() if name}
    trained = {name: one for name, one in named.items() if any(p.requires_grad for p in one.parameters())}
    found: dict[str, str] = {}
    for name, module in named.items():
        if name in trained or any(name.startswith(f"{one}.") for one in found):
            continue
        values = dict(module.named_parameters())
        if sum(one.numel() for one in values.values()) < _FEWEST or all(not bool(v.any()) for v in values.values()):
            continue
        source = next((other for other, one in trained.items() if _are_same(values, dict(one.named_parameters()))), "")
        if source:
            found[name] = source
    return found


def _are_same(values: dict[str, nn.Parameter], others: dict[str, nn.Parameter]) -> bool:
    return values.keys() == others.keys() and all(
        one is not others[name] and one.shape == others[name].shape and torch.equal(one, others[name])
        for name, one in values.items()
    )


def still_copy(model: nn.Module, copies: dict[str, str], start: dict[str, Tensor]) -> tuple[str, str]:
    """(copy, source) of the first one that has not moved, of a source that has; ("", "") without one.

    Args:
        model: After training.
        copies: What `copies_at_first` gave.
        start: Its trainable weights before, by name.
    """
    named = dict(model.named_parameters())
    for copy, source in copies.items():
        own = {name.removeprefix(f"{source}."): one for name, one in start.items() if name.startswith(f"{source}.")}
        is_still = all(torch.equal(named[f"{copy}.{name}"].detach(), value) for name, value in own.items())
        has_moved = any(not torch.equal(named[f"{source}.{name}"].detach(), value) for name, value in own.items())
        if own and is_still and has_moved:
            return copy, source
    return "", ""


def facts_of_own_targets(
    model: nn.Module, copies: dict[str, str], start: dict[str, Tensor], batch: Batch, loss_fn: Loss
) -> OwnTargets | None:  # fmt: skip
    """What of its own outputs a loss takes as given; None where it takes all of them to learn by, and no copy stands.

    Args:
        model: After training; runs in evaluation mode, and is left as it is.
        copies: Of `copies_at_first`.
        start: Its trainable weights before, by name.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    copy, source = still_copy(model, copies, start)
    with evaluation(model):
        if copy and not _is_read(model, copy, batch, loss_fn):
            copy, source = "", ""
        with torch.no_grad():
            output = batches.map_tensors(batches.call(model, batch[0]), Tensor.detach)
        parts, joined = parts_of(output)
        made = [name for name in parts if len(parts) > 1 and _is_given(parts, joined, name, batch[1], loss_fn)]
        is_moving = False
        if made:
            trained = {name: _FACTOR * one.detach() for name, one in model.named_parameters() if one.requires_grad}
            with weights_of(model, trained), torch.no_grad():
                seed_generators(0)
                moved, _ = parts_of(batches.call(model, batch[0]))
            is_moving = any(not torch.equal(parts[name], moved[name]) for name in made)
    if not is_moving and not made and not copy and isinstance(output, Tensor):
        is_moving = _is_detached_inside(output, batch[1], loss_fn)
        made = ["the model's"] if is_moving else []
    return OwnTargets(tuple(made), is_moving, copy, source) if made or copy else None


def _is_read(model: nn.Module, name: str, batch: Batch, loss_fn: Loss) -> bool:
    """Whether the loss changes with the values of a module."""
    others = {f"{name}.{one}": _FACTOR * p.detach() + _SHIFT for one, p in model.get_submodule(name).named_parameters()}
    costs: list[float] = []
    for values in ({}, others):
        with weights_of(model, values), torch.no_grad():
            seed_generators(0)
            costs.append(float(loss_fn(batches.call(model, batch[0]), batch[1])))
    return not math.isclose(*costs, rel_tol=_CHANGED)


def _is_given(
    parts: dict[str, Tensor], joined: Callable[[dict[str, Tensor]], Any], name: str, target: Any, loss_fn: Loss
) -> bool:
    """Whether a loss changes with this output, and has no slope there at all."""
    leaves = {one: part.detach().clone().requires_grad_() for one, part in parts.items()}
    others = dict(leaves)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(parts[name].shape, generator=generator).to(parts[name])
    others[name] = (parts[name] + (float(parts[name].std()) or 1.0) * noise).detach() if parts[name].numel() > 1 else (
        parts[name] + 1.0
    )  # fmt: skip
    try:
        with torch.enable_grad():
            loss = loss_fn(joined(leaves), target)
            if not loss.requires_grad:
                return False
            (slope,) = torch.autograd.grad(loss, leaves[name], allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            moved = loss_fn(joined(others), target)
    except (*FOREIGN, DataError):
        return False
    return not bool(slope.any()) and not math.isclose(float(loss.detach()), float(moved), rel_tol=_CHANGED)


def _is_detached_inside(output: Tensor, target: Any, loss_fn: Loss) -> bool:
    """Whether the slope of a loss at the outputs is not that which differences of it show: a part is detached."""
    if not output.is_floating_point() or output.numel() < 2:
        return False
    leaf = output.detach().double().clone().requires_grad_()
    wanted = batches.map_tensors(target, lambda one: one.double() if one.is_floating_point() else one)
    step = _STEP * (float(leaf.detach().std()) or 1.0)
    try:
        pairs = [slope_along(lambda value: loss_fn(value, wanted), leaf, step, seed) for seed in range(DIRECTIONS)]
    except (*FOREIGN, DataError):
        return False
    size = max(abs(other) for _, other in pairs)
    return size > 0 and all(math.isfinite(one) for pair in pairs for one in pair) and (
        min(abs(own - other) for own, other in pairs) > _OFF * size
    )  # fmt: skip
