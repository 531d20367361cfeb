"""The rivals' remedies, in plain PyTorch on a set-up. Each gives back False where it does not apply."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ..networks import ACTIVATIONS
from ..training import Setup


@dataclass
class Snapshot:
    """A model, its optimizer and the clipping as they were."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    clip: float

    def restore(self, setup: Setup) -> None:
        """Put copies of them into the set-up."""
        setup.model, setup.optimizer = _copies(self.model, self.optimizer)
        setup.clip = self.clip


def remember(setup: Setup) -> Snapshot:
    """Copies of what a remedy may change."""
    return Snapshot(*_copies(setup.model, setup.optimizer), setup.clip)


def _copies(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
    return copy.deepcopy((model, optimizer))


def _rebuild(setup: Setup, kind: type[torch.optim.Optimizer] | None = None, lr: float | None = None) -> None:
    """A fresh optimizer over the model's parameters: of the same kind and settings, unless others are given."""
    old = setup.optimizer
    parameters = [p for p in setup.model.parameters() if p.requires_grad]
    if kind is not None:
        setup.optimizer = kind(parameters, lr=lr or 0.001)
        return
    fresh = torch.optim.SGD if isinstance(old, torch.optim.SGD) else torch.optim.Adam
    settings = {"lr": lr or old.param_groups[0]["lr"]}
    if fresh is torch.optim.SGD:
        settings["momentum"] = old.param_groups[0]["momentum"]
    setup.optimizer = fresh(parameters, **settings)


def _swap(name: str) -> Callable[[Setup], bool]:
    """Another activation everywhere, with weights that fit it, from a fresh start."""

    def apply(setup: Setup) -> bool:
        found = [
            (parent, child)
            for parent in setup.model.modules()
            for child, module in parent.named_children()
            if isinstance(module, nn.ReLU | nn.Tanh | nn.Sigmoid | nn.LeakyReLU | nn.ELU | nn.SELU | nn.GELU)
        ]
        for parent, child in found:
            setattr(parent, child, ACTIVATIONS[name]())
        return bool(found) and reinitialise(setup)

    return apply


def reinitialise(setup: Setup) -> bool:
    """He weights and zero biases for every linear and convolutional layer, and a fresh optimizer."""
    for module in setup.model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad:
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    _rebuild(setup)
    return True


def insert_batchnorm(setup: Setup) -> bool:
    """BatchNorm after every linear or convolutional layer of a sequence but the last."""
    if not isinstance(setup.model, nn.Sequential):
        return False
    layers: list[nn.Module] = []
    heads = [m for m in setup.model if isinstance(m, nn.Linear | nn.Conv2d)][-1:]
    for module in setup.model:
        layers.append(module)
        if isinstance(module, nn.Linear) and module not in heads:
            layers.append(nn.BatchNorm1d(module.out_features))
        elif isinstance(module, nn.Conv2d):
            layers.append(nn.BatchNorm2d(module.out_channels))
    setup.model = nn.Sequential(*layers).train()
    _rebuild(setup)
    return True


def clip(setup: Setup) -> bool:
    """Clip the gradient norm at 10, the number of its paper."""
    setup.clip = 10.0
    return True


def _optimizer(kind: type[torch.optim.Optimizer]) -> Callable[[Setup], bool]:
    def apply(setup: Setup) -> bool:
        _rebuild(setup, kind)
        return True

    return apply


def _lr(factor: float) -> Callable[[Setup], bool]:
    def apply(setup: Setup) -> bool:
        for group in setup.optimizer.param_groups:
            group["lr"] *= factor
        return True

    return apply


REMEDIES: dict[str, Callable[[Setup], bool]] = {
    "selu": _swap("selu"),
    "relu": _swap("relu"),
    "tanh": _swap("tanh"),
    "leaky_relu": _swap("leaky_relu"),
    "elu": _swap("elu"),
    "batchnorm": insert_batchnorm,
    "clip": clip,
    "reinitialise": reinitialise,
    "adam": _optimizer(torch.optim.Adam),
    "rmsprop": _optimizer(torch.optim.RMSprop),
    "lr_down": _lr(0.1),
    "lr_up": _lr(10.0),
}
