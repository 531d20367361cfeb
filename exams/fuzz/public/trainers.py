"""Losses, optimizers, schedulers, metrics and clips, as people pass them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import frostline as fl
from exams.fuzz.public.networks import mlp
from exams.fuzz.public.pools import Make, Pool, UserFault, World, constants


def _raises(*_: Any) -> Tensor:
    raise UserFault("a function of the user's")


_ODD_FUNCTIONS: dict[str, Make] = {
    **constants(
        {
            "None": None,
            "number": 3,
            "bytes": b"x",
            "unknown": "cross_entropi",
            "class": nn.CrossEntropyLoss,
            "list": ["mse"],
            "no arguments": lambda: torch.zeros(()),
            "raises": _raises,
            "of None": lambda *_: None,
            "of text": lambda *_: "low",
            "of number": lambda *_: 1.0,
            "of nan": lambda *_: float("nan"),
        }
    ),
}

LOSSES = Pool(
    {"cross entropy": lambda _: F.cross_entropy, "module": lambda _: nn.CrossEntropyLoss()},
    {
        **_ODD_FUNCTIONS,
        **constants({"text": "cross_entropy", "mse": F.mse_loss, "nll": F.nll_loss, "bce": F.binary_cross_entropy}),
        "vector": lambda _: lambda out, y: F.cross_entropy(out, y, reduction="none"),
        "one-element vector": lambda _: lambda out, y: F.cross_entropy(out, y)[None],
        "detached": lambda _: lambda out, y: F.cross_entropy(out, y).detach(),
        "constant": lambda _: lambda out, y: torch.ones(()),
        "item": lambda _: lambda out, y: F.cross_entropy(out, y).item(),
        "nan tensor": lambda _: lambda out, y: F.cross_entropy(out, y) * float("nan"),
        "negative": lambda _: lambda out, y: -F.cross_entropy(out, y),
        "complex": lambda _: lambda out, y: out.sum() * 1j,
        "integer": lambda _: lambda out, y: out.argmax(),
        "in place": lambda _: lambda out, y: F.cross_entropy(out.mul_(2), y),
        "tuple": lambda _: lambda out, y: (F.cross_entropy(out, y), 1),
        "noisy": lambda _: lambda out, y: F.cross_entropy(out + torch.randn_like(out), y),
        "with weights": lambda _: nn.CrossEntropyLoss(weight=torch.ones(5)),
    },
)

NAMED_LOSSES = Pool(
    {**constants({"cross_entropy": "cross_entropy"}), **LOSSES.sane},
    {**constants({"mse name": "mse", "bce name": "bce", "empty text": ""}), **LOSSES.odd},
)

METRICS = Pool(
    {"accuracy": lambda _: lambda out, y: (out.argmax(1) == y).float().mean()},
    {
        **_ODD_FUNCTIONS,
        "vector": lambda _: lambda out, y: out.argmax(1) == y,
        "name": lambda _: "accuracy",
        "names": lambda _: ["top2", "auroc", "f1"],
        "unknown name": lambda _: ["top0"],
        "numbers": lambda _: "r2",
        "mapping": lambda _: {"a": lambda out, y: 1.0},
        "empty mapping": lambda _: {},
    },
)


def _parameters(world: World) -> list[nn.Parameter]:
    model = world.model
    found = [p for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    return found or list(mlp().parameters())


def _zero_rate(world: World) -> Any:
    return torch.optim.SGD(_parameters(world), 0.0)


def _with_state(world: World) -> Any:
    optimizer = torch.optim.Adam(_parameters(world), 1e-3)
    for parameter in _parameters(world):
        if not isinstance(parameter, nn.parameter.UninitializedParameter):
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


OPTIMIZERS = Pool(
    {"adamw": lambda w: torch.optim.AdamW(_parameters(w), 1e-3), "sgd": lambda w: torch.optim.SGD(_parameters(w), 0.1)},
    {
        **constants({"None": None, "name": "adamw", "number": 0.1, "class": torch.optim.SGD, "bytes": b"x"}),
        "factory": lambda _: lambda parameters: torch.optim.SGD(parameters, 0.1),
        "of another": lambda _: torch.optim.SGD(mlp().parameters(), 0.1),
        "of some": lambda w: torch.optim.SGD(_parameters(w)[-1:], 0.1),
        "of one more": lambda w: torch.optim.SGD([*_parameters(w), nn.Parameter(torch.zeros(2))], 0.1),
        "lbfgs": lambda w: torch.optim.LBFGS(_parameters(w), 0.1),
        "sparse adam": lambda w: torch.optim.SparseAdam(_parameters(w), 0.1),
        "zero rate": _zero_rate,
        "nan rate": lambda w: torch.optim.SGD(_parameters(w), float("nan")),
        "huge rate": lambda w: torch.optim.SGD(_parameters(w), 1e30),
        "tensor rate": lambda w: torch.optim.AdamW(_parameters(w), torch.tensor(1e-3)),
        "groups": lambda w: torch.optim.SGD([{"params": [p], "lr": 0.1} for p in _parameters(w)]),
        "with state": _with_state,
        "scheduler": lambda w: torch.optim.lr_scheduler.StepLR(torch.optim.SGD(_parameters(w), 0.1), 2),
        "parameters": lambda w: w.model.parameters() if isinstance(w.model, nn.Module) else iter(()),
    },
)

FACTORIES = Pool(
    {
        **constants({"adamw": "adamw", "sgd": "sgd"}),
        "factory": lambda _: lambda ps: torch.optim.SGD(ps, 0.1),
        "instance": OPTIMIZERS.sane["sgd"],
    },
    {
        **_ODD_FUNCTIONS,
        "of another": OPTIMIZERS.odd["of another"],
        "with state": OPTIMIZERS.odd["with state"],
        "adam class": lambda _: torch.optim.Adam,
        "lbfgs": lambda _: lambda ps: torch.optim.LBFGS(ps, 0.1),
        "sparse adam": lambda _: lambda ps: torch.optim.SparseAdam(list(ps), 0.1),
        "of nothing": lambda _: lambda ps: torch.optim.SGD([nn.Parameter(torch.zeros(2))], 0.1),
    },
)

SCHEDULERS = Pool(
    {**constants({"cosine": "cosine", "step": "step"})},
    {
        **_ODD_FUNCTIONS,
        "one cycle": lambda _: lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, 0.1, total_steps=1),
        "on plateau": lambda _: torch.optim.lr_scheduler.ReduceLROnPlateau,
        "exponential": lambda _: lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, 0.9),
    },
)

CLIPS = Pool(
    {"by norm": lambda _: fl.remedies.clip_by_norm(1.0)},
    {**_ODD_FUNCTIONS, "torch": lambda _: lambda ps: nn.utils.clip_grad_norm_(ps, 1.0), "text": lambda _: "norm"},
)
