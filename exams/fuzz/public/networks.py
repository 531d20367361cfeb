"""Models that a public call may be given: usual ones, odd ones, and things that are no model.

Legend: B batch, D features.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

import frostline as fl
from exams.fuzz.public.pools import Make, Pool, UserFault, World, constants

D = 6


def mlp() -> nn.Sequential:
    """The usual one: (B, D) -> (B, 2)."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(D, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 2)
    )


def half() -> nn.Sequential:
    """The same, frozen up to its second linear layer."""
    model = mlp()
    fl.freeze(model, through="3")
    return model


class Wrapped(nn.Module):
    """A network in a module of the user's own; `how` says what is odd about its forward."""

    def __init__(self, how: str = "plain") -> None:
        super().__init__()
        torch.manual_seed(1)
        self.low, self.high, self.how = nn.Linear(D, 8), nn.Linear(8, 2), how
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        features_BD = torch.relu(self.low(x))
        out_BD = self.high(features_BD)
        if self.how == "raises":
            raise UserFault("forward")
        if self.how == "raises late":
            self.calls += 1
            if self.calls > 3:
                raise UserFault("forward, later")
        ways: dict[str, Any] = {
            "dict": {"a": out_BD, "b": features_BD},
            "logits": {"logits": out_BD},
            "tuple": (out_BD, features_BD),
            "none": None,
            "text": "cat",
            "number": 1.0,
            "empty": (),
            "scalar": out_BD.mean(),
            "detached": out_BD.detach(),
            "item": out_BD * float(features_BD.sum().item()),
            "numpy": features_BD.detach().numpy(),
            "integers": out_BD.argmax(1),
            "sorted": out_BD.sort(0)[0],
            "nan": out_BD * float("nan"),
            "complex": torch.complex(out_BD, out_BD),
            "mean": out_BD - out_BD.mean(0),
            "list": [out_BD],
        }
        return ways.get(self.how, out_BD)


class Arguments(nn.Module):
    """A forward of `*args` and `**kwargs`."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.net(args[0] if args else next(iter(kwargs.values())))


class Pair(nn.Module):
    """A forward of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(D, 2), nn.Linear(D, 2)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.left(x) + self.right(other)


class Nothing(nn.Module):
    """A forward without inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))

    def forward(self) -> Tensor:
        return self.weight


class Own(nn.Module):
    """Its parameters stand beside its layers, some as None, some in lists."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.token = nn.Parameter(torch.zeros(1, D))
        self.lists = nn.ParameterList([nn.Parameter(torch.randn(D, 2))])
        self.register_parameter("absent", None)
        self.register_buffer("empty", None)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.low = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return (self.low(x) + self.token) @ self.lists[0]


def _twice() -> nn.Module:
    layer = nn.Linear(D, D)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(D, 2))


def _tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D), nn.Linear(D, 2))
    model[2].weight = model[0].weight
    return model


def _two_heads() -> nn.Module:
    model = Wrapped()
    model.fc, model.classifier = nn.Linear(8, 2), nn.Linear(8, 2)
    return model


def _hooked() -> nn.Module:
    model = mlp()
    model[0].register_forward_hook(lambda module, args, out: out * 2)
    model[3].register_full_backward_hook(lambda module, gin, gout: None)
    return model


def _with_gradients() -> nn.Module:
    model = mlp()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def _mixed() -> nn.Module:
    model = mlp()
    model[1].eval()
    model[3].half()
    return model


def _nan() -> nn.Module:
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    return model


def _inference() -> nn.Module:
    with torch.inference_mode():
        return mlp()


def _quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(mlp().eval(), {nn.Linear})


def _scripted(is_traced: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(mlp().eval(), torch.zeros(2, D)) if is_traced else torch.jit.script(mlp())


def _non_leaf() -> nn.Module:
    model = mlp()
    weight = model[0].weight
    del model[0].weight
    model[0].weight = weight * 1.0
    return model


def _half_of(model: nn.Module, through: str) -> nn.Module:
    fl.freeze(model, through=through)
    return model


def _wholly_frozen() -> nn.Module:
    model = mlp()
    fl.freeze(model)
    return model


def _conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


MODULES: dict[str, Make] = {
    "mlp": lambda _: mlp(),
    "half": lambda _: half(),
    "eval": lambda _: mlp().eval(),
    "wrapped": lambda _: _half_of(Wrapped(), "low"),
    "own": lambda _: _half_of(Own(), "low"),
    "conv": lambda _: _half_of(_conv(), "1"),
    "empty": lambda _: nn.Sequential(),
    "no parameters": lambda _: nn.Sequential(nn.ReLU()),
    "one layer": lambda _: nn.Linear(D, 2),
    "abstract": lambda _: nn.Module(),
    "lazy": lambda _: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)),
    "lazy bn": lambda _: nn.Sequential(nn.Linear(D, 8), nn.LazyBatchNorm1d(), nn.Linear(8, 2)),
    "half precision": lambda _: mlp().half(),
    "bfloat16": lambda _: half().bfloat16(),
    "float64": lambda _: half().double(),
    "complex": lambda _: nn.Sequential(nn.Linear(D, 4, dtype=torch.complex64), nn.Linear(4, 2, dtype=torch.complex64)),
    "meta": lambda _: half().to("meta"),
    "mixed": lambda _: _mixed(),
    "twice": lambda _: _twice(),
    "tied": lambda _: _tied(),
    "two heads": lambda _: _two_heads(),
    "scripted": lambda _: _scripted(is_traced=False),
    "traced": lambda _: _scripted(is_traced=True),
    "compiled": lambda _: torch.compile(half(), backend="eager"),
    "data parallel": lambda _: nn.DataParallel(half()),
    "averaged": lambda _: torch.optim.swa_utils.AveragedModel(mlp()),
    "wholly frozen": lambda _: _wholly_frozen(),
    "hooked": lambda _: _hooked(),
    "with gradients": lambda _: _with_gradients(),
    "nan": lambda _: _nan(),
    "inference": lambda _: _inference(),
    "quantised": lambda _: _quantised(),
    "non leaf": lambda _: _non_leaf(),
    "weight norm": lambda _: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(D, 8)), nn.Linear(8, 2)),
    "spectral norm": lambda _: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Linear(D, 8)), nn.BatchNorm1d(8), nn.Linear(8, 2)
    ),
    "arguments": lambda _: Arguments(),
    "pair": lambda _: Pair(),
    "no inputs": lambda _: Nothing(),
    "embedding": lambda _: nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.LazyLinear(2)),
    "sparse gradients": lambda _: nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Flatten(), nn.Linear(24, 2)),
    "recurrent": lambda _: nn.LSTM(D, 4),
    "frozen batch norm": lambda _: nn.Sequential(nn.Linear(D, 8), _half_bn(), nn.Linear(8, 2)),
    "noise below": lambda _: _noise_below(),
    "copied": lambda _: copy.deepcopy(half()),
    **{
        f"out {how}": (lambda _, how=how: _half_of(Wrapped(how), "low"))
        for how in (
            "raises",
            "raises late",
            "dict",
            "logits",
            "tuple",
            "none",
            "text",
            "number",
            "empty",
            "scalar",
            "detached",
            "item",
            "numpy",
            "integers",
            "sorted",
            "nan",
            "complex",
            "mean",
            "list",
        )
    },
}


def _half_bn() -> nn.Module:
    norm = nn.BatchNorm1d(8)
    for parameter in norm.parameters():
        parameter.requires_grad_(False)
    return norm


def _noise_below() -> nn.Module:
    model = nn.Sequential(nn.Linear(D, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))
    for parameter in model[:3].parameters():
        parameter.requires_grad_(False)
    return model


def _class(_: World) -> Any:
    return nn.Linear


NO_MODULES: dict[str, Make] = {
    **constants({"None": None, "text": "resnet18", "number": 3, "bytes": b"model", "list": []}),
    "class": _class,
    "function": lambda _: torch.relu,
    "list of layers": lambda _: [nn.Linear(D, 2)],
    "state dict": lambda _: mlp().state_dict(),
    "parameters": lambda _: mlp().parameters(),
}

MODELS = Pool({"half": MODULES["half"]}, {**MODULES, **NO_MODULES}).usual("half", "mlp", "wrapped")
