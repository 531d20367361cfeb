"""Change a model and its optimizer in place, with the way back to the bit."""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from frostline.core.arguments import as_names, check_model, check_optimizer
from frostline.core.errors import DataError
from frostline.core.layers import MODE, frozen_modules, matching, resolve

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from torch import Tensor
    from torch.optim import Optimizer

_MISSING = object()
_HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip


# An undo has to restore everything, not only what the remedy changed, because `heal` trains between a trial and its
# rollback. A log of changes would be smaller, but cannot undo that training.
class Snapshot:
    """All that a remedy may change: module tables, parameters, buffers, modes, optimizer.

    It holds a copy of every value, so it costs the model's and the optimizer's memory once more.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer | None = None) -> None:
        _check_changeable(model)
        self._modules = [
            (module, dict(module._modules), dict(module._parameters), dict(module._buffers), module.training)
            for module in model.modules()
        ]
        held = [t for _, _, own, buffers, _ in self._modules for t in (*own.values(), *buffers.values())]
        self._values = [
            (t, t.detach().clone(), t.requires_grad) for t in {id(t): t for t in held if t is not None}.values()
        ]
        self._attributes: list[tuple[nn.Module, str, Any]] = []
        self.optimizer = check_optimizer("the remedy", "optimizer", optimizer) if optimizer is not None else None
        if optimizer is not None:
            self._groups = [
                (group, {key: _kept(value) for key, value in group.items()}) for group in optimizer.param_groups
            ]
            self._state = {p: _kept(state) for p, state in optimizer.state.items()}

    def set_attribute(self, module: nn.Module, name: str, value: Any) -> None:
        """Set a plain attribute, and remember what stood there."""
        self._attributes.append((module, name, vars(module).get(name, _MISSING)))
        setattr(module, name, value)

    def restore(self) -> None:
        """Put everything back; the objects are those of before, with their values of before."""
        for module, name, value in reversed(self._attributes):
            module.__dict__.pop(name, None)
            if value is not _MISSING:
                module.__dict__[name] = value
        for module, modules, parameters, buffers, training in self._modules:
            for table, before in zip(
                (module._modules, module._parameters, module._buffers), (modules, parameters, buffers), strict=True
            ):
                table.clear()
                table.update(before)  # type: ignore[arg-type]
            module.training = training
        with torch.no_grad():
            for tensor, value, trains in self._values:
                if (tensor.dtype, tensor.device, tensor.shape) == (value.dtype, value.device, value.shape):
                    tensor.copy_(value)
                else:  # the model was converted or moved meanwhile
                    tensor.data = value.clone()
                if tensor.is_leaf:
                    tensor.requires_grad_(trains)
        if self.optimizer is not None:
            for group, before in self._groups:
                group.clear()
                group.update({key: _kept(value) for key, value in before.items()})
            self.optimizer.param_groups[:] = [group for group, _ in self._groups]
            self.optimizer.state.clear()
            self.optimizer.state.update({p: _kept(state) for p, state in self._state.items()})


def replace_everywhere(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` where `old` is registered, under every name; it keeps the mode, the hooks and the freeze."""
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is old and module is not new:
                module._modules[name] = new
    pin = vars(old).get("train")
    if isinstance(pin, partial):  # the freeze of `old` is bound to `old`
        object.__setattr__(new, "train", type(pin)(pin.func, new))
        vars(new).update({key: note for key, note in vars(old).items() if key == MODE})
    known = {id(part) for part in old.modules()}
    for part in new.modules():
        if id(part) not in known:
            part.training = old.training


def inherit_hooks(new: nn.Module, old: nn.Module) -> None:
    """Let the user's hooks go on: the tables are shared, so that their handles still remove them."""
    for name in _HOOKS:
        object.__setattr__(new, name, getattr(old, name))


def adopt(optimizer: Optimizer | None, new: Iterable[tuple[str, nn.Parameter]], like: nn.Parameter | None) -> bool:
    """Add new parameters to the group that trains `like`; False if the optimizer does not train it."""
    group: Any = _group_of(optimizer, like)
    if group is None:
        return False
    for name, parameter in new:
        group["params"].append(parameter)
        if "param_names" in group:
            group["param_names"].append(name)
    return True


def dismiss(optimizer: Optimizer | None, parameter: nn.Parameter) -> None:
    """Take a parameter that left the model out of its group, and forget its state."""
    group = _group_of(optimizer, parameter)
    if group is None or optimizer is None:
        return
    at = next(at for at, known in enumerate(group["params"]) if known is parameter)
    del group["params"][at]
    if "param_names" in group:
        del group["param_names"][at]
    optimizer.state.pop(parameter, None)


def placement(model: nn.Module, module: nn.Module) -> nn.Parameter | None:
    """The parameter whose device, dtype and optimizer group apply: its own, or the one registered closest before."""
    for own in module.parameters():
        return own
    before: nn.Parameter | None = None
    is_past = False
    for part in model.modules():
        is_past = is_past or part is module
        for parameter in part.parameters(recurse=False):
            if parameter.is_floating_point():
                if is_past and before is not None:
                    return before
                before = parameter
    return before


def chosen_modules(model: nn.Module, layers: Iterable[str] | str | None) -> tuple[dict[str, nn.Module], set[int]]:
    """(modules by their first name, ids of those that the caller named himself).

    Args:
        model: The model.
        layers: Qualified names or globs; a name stands for everything inside, but only what it names itself counts as
            named. None is the whole model.

    Raises:
        LayerNotFound: If a name or glob fits nothing.
    """
    if layers is None:
        return dict(model.named_modules()), set()
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    given = as_names("the remedy", "layers", layers)
    full: list[str] = []
    for entry in given:
        full += sorted(matching([entry], names)) if any(mark in entry for mark in "*?[") else [entry]
    named = [resolve(model, name) for name in full]
    inside = {id(part) for module in named for part in module.modules()}
    return {name: m for name, m in model.named_modules() if id(m) in inside}, {id(module) for module in named}


def left_alone(model: nn.Module, found: dict[str, nn.Module], named: set[int]) -> dict[str, nn.Module]:
    """The part of `found` that is frozen and not named by the caller."""
    frozen = frozen_modules(model)
    return {name: module for name, module in found.items() if id(module) in frozen and id(module) not in named}


def grouped(notes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """(layer, reason) pairs as one text for each reason: `"a, b: reason"`."""
    by_reason: dict[str, list[str]] = {}
    for layer, reason in notes:
        by_reason.setdefault(reason, []).append(layer or "the model")
    return tuple(f"{', '.join(dict.fromkeys(layers))}: {reason}" for reason, layers in by_reason.items())


def slots(model: nn.Module, parameter: Tensor | None) -> int:
    """How many places in the model hold this parameter."""
    return sum(own is parameter for module in model.modules() for own in module._parameters.values())


def _group_of(optimizer: Optimizer | None, parameter: nn.Parameter | None) -> Any:
    groups = optimizer.param_groups if optimizer is not None and parameter is not None else []
    return next((group for group in groups if any(known is parameter for known in group["params"])), None)


def _kept(value: Any) -> Any:
    """A copy of optimizer state: tensors cloned, containers rebuilt, parameters themselves."""
    if isinstance(value, nn.Parameter):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _kept(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_kept(entry) for entry in value)
    return copy.deepcopy(value)


def _check_changeable(model: nn.Module) -> None:
    check_model("the remedy", model, needs=("training",))
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(parameter):
            raise DataError(
                what="The model has a layer whose shape is not known yet.", where=name, received="a lazy parameter",
                do="run the model on a batch once, then apply the remedy.",
            )  # fmt: skip
    for name, module in _compiled(model):
        raise DataError(
            what="A compiled model cannot be changed in place.",
            where=name or type(model).__name__,
            received=type(module).__name__,
            do="apply the remedy to the model as it was before torch.compile, then compile it again.",
        )


def _compiled(model: nn.Module) -> Generator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if hasattr(module, "_orig_mod") or isinstance(module, torch.jit.ScriptModule):
            yield name, module
