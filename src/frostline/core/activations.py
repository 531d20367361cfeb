"""What counts as an activation: modules, functions, and how each is made."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn

from frostline.core.errors import DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

Activation: TypeAlias = "str | type[nn.Module] | nn.Module | Callable[[], nn.Module]"

BY_NAME: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "elu": nn.ELU, "selu": nn.SELU, "gelu": nn.GELU,
    "silu": nn.SiLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip

KINDS: tuple[type[nn.Module], ...] = (
    *BY_NAME.values(), nn.ReLU6, nn.CELU, nn.Mish, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
    nn.LogSigmoid, nn.Threshold, nn.RReLU, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink,
)  # fmt: skip

# Functions and methods by name, and the module that does the same.
FUNCTIONS: dict[str, str] = {
    "relu": "ReLU", "relu_": "ReLU", "threshold": "Threshold", "leaky_relu": "LeakyReLU", "leaky_relu_": "LeakyReLU",
    "prelu": "PReLU", "elu": "ELU", "elu_": "ELU", "selu": "SELU", "selu_": "SELU", "celu": "CELU", "gelu": "GELU",
    "silu": "SiLU", "mish": "Mish", "tanh": "Tanh", "tanh_": "Tanh", "sigmoid": "Sigmoid", "sigmoid_": "Sigmoid",
    "softplus": "Softplus", "hardtanh": "Hardtanh", "relu6": "ReLU6", "hardswish": "Hardswish", "rrelu": "RReLU",
    "hardsigmoid": "Hardsigmoid", "logsigmoid": "LogSigmoid",
}  # fmt: skip

_FOREIGN = ("timm.layers.activations", "timm.layers.activations_me", "transformers.activations")


def is_activation(module: nn.Module) -> bool:
    """True for torch's activations, and for those that timm and transformers bring along."""
    return isinstance(module, KINDS) or type(module).__module__ in _FOREIGN


def is_kind(module: nn.Module, kind: type[nn.Module]) -> bool:
    """True if `module` is of this type; nn.ReLU6 is not taken for the nn.Hardtanh that it inherits from."""
    return type(module) is kind or (isinstance(module, kind) and not type(module).__module__.startswith("torch.nn"))


def kind_of(old: str | type[nn.Module]) -> type[nn.Module]:
    """The activation's class, from its name or class.

    Raises:
        DataError: If there is no such activation.
    """
    if isinstance(old, type):
        return old
    if not isinstance(old, str) or old not in BY_NAME:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(
            what=f"There is no activation named {old!r}.", where="the activation", received=repr(old),
            do=f"use {nearest(str(old), BY_NAME)}, a class such as nn.ELU, an instance, or a function that makes one.",
        )  # fmt: skip
    return BY_NAME[old]


def make(new: Activation) -> nn.Module:
    """A fresh activation from a name, class, instance or factory; never one that works in place.

    Raises:
        DataError: If it does not make a module.
    """
    if isinstance(new, nn.Module):
        made: Any = copy.deepcopy(new)
    else:
        made = _made(new if callable(new) and not isinstance(new, type) else kind_of(new))
    if not isinstance(made, nn.Module):
        raise DataError(
            what="The new activation is not a module.", where="the activation", received=type(made).__name__,
            do="pass a name such as 'elu', nn.ELU, nn.ELU(alpha=0.5), or a function without arguments that makes one.",
        )  # fmt: skip
    if hasattr(made, "inplace"):
        made.inplace = False  # type: ignore[assignment]
    return made


def _made(factory: Callable[[], Any]) -> Any:
    try:
        return factory()
    except TypeError as error:  # it wants arguments
        raise DataError(
            what="The new activation cannot be made without arguments.", where="the activation",
            received=f"{getattr(factory, '__name__', 'a function')}: {error}",
            do="pass an instance such as nn.ELU(alpha=0.5), or a function without arguments that makes one.",
        ) from error  # fmt: skip


def label(activation: Activation) -> str:
    """A short name of an activation for tables and texts."""
    if isinstance(activation, str):
        return activation
    if isinstance(activation, nn.Module):
        return repr(activation)
    return getattr(activation, "__name__", type(activation).__name__)
