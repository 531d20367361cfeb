"""Optimizers by name, built from a recipe; warm-up lives inside one, so that it survives a copy of its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn, optim

from .recipe import Recipe


class WarmupAdam(optim.Adam):
    """Adam that raises its learning rate from zero over its first steps; the count is in its param_groups."""

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, warmup: int = 50, **others: Any) -> None:
        super().__init__(params, lr=lr, **others)
        self.defaults["warmup"] = warmup
        for group in self.param_groups:
            group.setdefault("warmup", warmup)
            group.setdefault("taken", 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step at the share of the learning rate that is reached by now."""
        full = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["taken"] += 1
            group["lr"] *= min(1.0, group["taken"] / group["warmup"])
        try:
            return super().step(closure)
        finally:
            for group, lr in zip(self.param_groups, full, strict=True):
                group["lr"] = lr


def _sgd(parameters: list[nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    return optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _adam(parameters: list[nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    if recipe.warmup:
        return WarmupAdam(parameters, lr=recipe.lr, warmup=recipe.warmup, weight_decay=recipe.weight_decay)
    return optim.Adam(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _adamw(parameters: list[nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    return optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _rmsprop(parameters: list[nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    return optim.RMSprop(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _nesterov(parameters: list[nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    return optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)


def _two_groups(parameters: list[nn.Parameter], recipe: Recipe) -> optim.Optimizer:
    """The usual fine-tuning set-up: the body a hundred times slower than the head."""
    body, head = parameters[:-2], parameters[-2:]
    return optim.AdamW([{"params": body, "lr": recipe.lr / 100}, {"params": head, "lr": recipe.lr}])


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], Recipe], optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "nesterov": _nesterov,
    "two_groups": _two_groups,
}


def build(model: nn.Module, recipe: Recipe) -> optim.Optimizer:
    """The recipe's optimizer over the parameters that are trained."""
    return OPTIMIZERS[recipe.optimizer]([p for p in model.parameters() if p.requires_grad], recipe)
