"""What modules are made of, to be compared at every pass: children, code, hooks, and numbers of frozen ones.

A graph calls the modules that it was made from, and a frozen module does not run at all: what takes their place later,
or a hook that is registered later, would have no effect.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any

from torch import nn

from frostline.core.code_names import loaded, nested
from frostline.core.errors import SplitError
from frostline.splitting.python_state.places import NUMBERS
from frostline.splitting.python_state.sources import is_torch, stored

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Hooks that change nothing: those of the monitor, and those that models of transformers register themselves in their
# first call; they hand outputs to whoever asks for hidden states.
_LOOKING = ("frostline.", "transformers.utils.output_capturing")
_OWN = ("train", "_compiled_call_impl")  # what freeze and compile put there


class ModuleTables:
    """Modules of a model as they are now.

    Args:
        model: The model.
        followed: Names of modules that the head calls whole: what changes inside of them, the head follows.
        has_own_forward: True if the head runs the model's own forward: it follows all but frozen modules.
    """

    def __init__(self, model: nn.Module, followed: Iterable[str], *, has_own_forward: bool) -> None:
        self._model, inside = model, tuple(f"{name}." for name in followed)
        found = {name: module for name, module in model.named_modules() if not f"{name}.".startswith(inside)}
        if has_own_forward:
            found = {name: module for name, module in found.items() if _is_frozen(module)}
        self._modules = found
        self._frozen = {name for name, module in found.items() if _is_frozen(module)}
        self._before = {name: self._table_of(name) for name in found}

    def check(self) -> None:
        """Raise if something of them is another one now.

        Raises:
            SplitError: It names what.
        """
        for name, module in self._modules.items():
            parent, _, leaf = name.rpartition(".")
            above = self._modules.get(parent) if name else None
            now = (
                dict(above._modules).get(leaf) if above is not None else module
            )  # a script has a table of its own kind
            if now is not module:
                raise changed_model_error(name, f"another module under the same name: {_shown(now)}")
            before, after = self._before[name], self._table_of(name)
            for key in {**before, **after}:
                one, other = before.get(key), after.get(key)
                if one is not other and not _is_equal(one, other):
                    received = f"{_shown(one)} when it was split, {_shown(other)} now"
                    raise changed_model_error(f"{name}.{key}" if name else key, received)

    def _table_of(self, name: str) -> dict[str, Any]:
        module = self._modules[name]
        table: dict[str, Any] = dict(module._modules)
        table["forward"] = vars(module).get("forward", inspect.getattr_static(type(module), "forward", None))
        for kind in _HOOKS:
            hooks: Mapping[int, Any] = getattr(module, kind)
            own = [hook for hook in hooks.values() if not _only_looks(hook)]
            table |= {f"{kind[1:-1]} number {at}": hook for at, hook in enumerate(own)}
        table |= {key: own for key, own in vars(module).items() if key not in _OWN and callable(own)}
        for kind in type(module).__mro__:
            if not is_torch(kind):
                table |= {key: own for key, own in vars(kind).items() if isinstance(own, FunctionType)} | table
        return table | (_numbers_of(module) if name in self._frozen else {})


def _only_looks(hook: Any) -> bool:
    return str(getattr(hook, "__module__", None)).startswith(_LOOKING)


def _numbers_of(module: nn.Module) -> dict[str, Any]:
    """Numbers and texts that forward reads and does not write."""
    own = ((key, value) for key, value in vars(module).items() if not key.startswith("_"))  # notes of freeze
    kept = {key: value for key, value in own if isinstance(value, (*NUMBERS, tuple))}
    kept.pop("training", None)  # modes are compared by the digest at the end of a training
    if is_torch(type(module)):
        return kept
    function = inspect.getattr_static(type(module), "forward", None)
    codes = list(nested(function.__code__)) if isinstance(function, FunctionType) else []
    read = {name for code in codes for name in loaded(code)} - {name for code in codes for name in stored(code)}
    return {key: value for key, value in kept.items() if key in read}


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _is_equal(one: Any, other: Any) -> bool:
    kinds = (*NUMBERS, tuple)
    return isinstance(one, kinds) and isinstance(other, kinds) and bool(one == other)


def _shown(value: Any) -> str:
    if isinstance(value, (*NUMBERS, tuple)):
        return repr(value)
    if value is None:
        return "nothing"
    return getattr(value, "__qualname__", None) or f"{type(value).__name__}"


def changed_model_error(name: str, received: str) -> SplitError:
    """What the head was made from is another one now."""
    return SplitError(
        what=f"The model was changed after it was split: {name!r} is not what the head was made from.",
        where=name,
        received=received,
        do="call frostline.split(model, example) again after such a change.",
    )
