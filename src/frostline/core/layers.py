"""Address the layers of a model by their qualified names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from frostline.core.errors import DataError, LayerNotFound, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

MODE = "_mode_before_freeze"  # a note that `freeze` leaves on a module for `thaw`, beside its `train`
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "AveragedModel")


def layer_names(model: nn.Module) -> list[str]:
    """Qualified names of all modules in the order of registration, all names of a shared one, without the model."""
    return [name for name, _ in model.named_modules(remove_duplicate=False) if name]


def resolve(model: nn.Module, name: str) -> nn.Module:
    """The module with this qualified name.

    Raises:
        LayerNotFound: If there is none; the nearest names are listed.
    """
    is_name = isinstance(name, str) and name  # pyright: ignore[reportUnnecessaryIsInstance]
    found = dict(model.named_modules(remove_duplicate=False)).get(name) if is_name else None
    if found is None:
        known = nearest(str(name), layer_names(model))
        raise LayerNotFound(
            what=f"The model has no layer named {name!r}.",
            where=type(model).__name__,
            received=repr(name),
            do=f"use a name from model.named_modules(), for example {known}." if known else "pass a model with layers.",
        )
    return found


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The module of this name, which is there; also if a method of `nn.Module` has its last part as a name (`to`).

    `get_submodule` gives the method then.

    Example:
        >>> model = torch.nn.ModuleDict()
        >>> model.add_module("body", torch.nn.Sequential(torch.nn.ReLU()))
        >>> submodule(model, "body.0")
        ReLU()
    """
    for part in filter(None, name.split(".")):
        found = model._modules[part]
        assert found is not None
        model = found
    return model


def first_name(model: nn.Module, module: nn.Module) -> str:
    """The name by which `named_modules()` lists a module of the model, whichever of its names was given."""
    return next(name for name, part in model.named_modules() if part is module)


def unwrapped(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module inside of `torch.compile`, DataParallel, DDP and averaged models, and their names."""
    names: list[str] = []
    while True:
        kind = type(model).__name__
        inner = getattr(model, "_orig_mod", None) if kind == "OptimizedModule" else None
        if kind in _WRAPPERS:
            inner = getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model, tuple(names)
        names.append("torch.compile" if kind == "OptimizedModule" else kind)
        model = inner


def check_initialized(model: nn.Module, where: str) -> None:
    """Raise if a lazy layer has no weights yet.

    Raises:
        DataError: It names the layer.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise DataError(
                what="A lazy layer has no weights yet.", where=where, received=f"{name}: {type(tensor).__name__}",
                do="call the model once on a batch, for example model(inputs), then call this again.",
            )  # fmt: skip


def default_dtype_of(model: nn.Module) -> torch.dtype:
    """The default dtype that fits a model: float64 if all its floats are, else float32."""
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return torch.float64 if kinds == {torch.float64} else torch.float32


def matching(patterns: Iterable[str], names: list[str]) -> set[str]:
    """The names that match the glob patterns.

    Raises:
        LayerNotFound: If a pattern matches nothing.
    """
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            raise LayerNotFound(
                what=f"No layer or parameter matches the pattern {pattern!r}.",
                where="patterns",
                received=repr(pattern),
                do=f"use a glob over qualified names: {nearest(pattern.rstrip('.*'), names) or 'there are none'}.",
            )
        found |= matched
    return found


def is_pinned(module: nn.Module) -> bool:
    """True if the module keeps its own mode whatever `model.train()` says, as frozen modules do."""
    return "train" in vars(module)


def frozen_modules(model: nn.Module) -> set[int]:
    """Ids of the frozen modules: pinned in inference mode, or part of a module without a trainable weight."""
    found = {id(module) for module in model.modules() if is_pinned(module)}
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            found |= {id(part) for part in module.modules()}
    return found


def has_recurrent(model: nn.Module) -> bool:
    """True if a layer is an RNN, LSTM or GRU."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def compact_recurrent(model: nn.Module) -> None:
    """Lay the weights of recurrent layers into one piece again, which a copy scatters: cuDNN warns at every call."""
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
