"""Listeners: objects through which the calls of one run pass, in this thread only.

This is the one place that changes torch: `nn.Module.__call__`, `autograd.Function.apply` and the calls of scripted
functions are wrapped for the time of one run or several, and put back on errors too. Torch functions need no patch:
a `TorchFunctionMode`, here `TorchCalls`, gets them.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Listener:
    """An object through which the calls of a run pass; this one lets all of them pass as they are."""

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        """A module is called; `run()` is the call itself, hooks included."""
        return run()

    def autograd_function_called(
        self, function: type[torch.autograd.Function], args: tuple[Any, ...], run: Callable[[], Any]
    ) -> Any:
        """A custom autograd Function is applied; `run()` is the application."""
        return run()

    def script_called(self, script: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]) -> Any:
        """A scripted function, or a method of a scripted module, is called; `run()` is the call itself."""
        return run()


_SCRIPTS: Any = (torch.jit.ScriptFunction, torch._C.ScriptMethod)


class _Wrappers:
    """The wrapped calls, and the listeners of each thread; the last user puts torch back."""

    def __init__(self) -> None:
        self.call: Any = nn.Module.__call__
        self.apply: Any = torch.autograd.Function.__dict__["apply"]
        self.scripts: list[Any] = [kind.__call__ for kind in _SCRIPTS]
        self.listeners: dict[int, list[Listener]] = {}
        self.users = 0

    def wrap(self) -> None:
        plain_call, plain_apply, listeners = self.call, self.apply, self.listeners

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            listening_here = listeners.get(threading.get_ident())
            if not listening_here:
                return plain_call(module, *args, **kwargs)
            return listening_here[-1].module_called(module, args, kwargs, lambda: plain_call(module, *args, **kwargs))

        def apply(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
            def run() -> Any:
                return plain_apply.__get__(None, cls)(*args, **kwargs)

            listening_here = listeners.get(threading.get_ident())
            if not listening_here or kwargs:
                return run()
            return listening_here[-1].autograd_function_called(cls, args, run)

        setattr(call, _MARK, self)
        # A custom autograd Function does not pass through torch-function modes: without this wrapper its body would be
        # recorded, and its own backward lost. Considered: finding the call in the Python stack; a Function that makes
        # no torch call leaves no trace there.
        nn.Module.__call__ = call
        torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment]
        for kind, plain_script in zip(_SCRIPTS, self.scripts, strict=True):
            kind.__call__ = self._hearing_script(plain_script)

    def _hearing_script(self, plain_script: Any) -> Any:
        def call(script: Any, *args: Any, **kwargs: Any) -> Any:
            listening_here = self.listeners.get(threading.get_ident())
            if not listening_here:
                return plain_script(script, *args, **kwargs)
            run = partial(plain_script, script, *args, **kwargs)
            return listening_here[-1].script_called(script, args, kwargs, run)

        return call

    def unwrap(self) -> None:
        nn.Module.__call__ = self.call
        torch.autograd.Function.apply = self.apply
        for kind, plain_script in zip(_SCRIPTS, self.scripts, strict=True):
            kind.__call__ = plain_script


_MARK = "frostline_wrappers"
_LOCK = threading.Lock()


@contextmanager
def wrapped() -> Generator[_Wrappers]:
    """For the time of the block the calls of torch are wrapped; where they are, in any thread, nothing is done."""
    # Wrapping takes a good part of a run of a small model, since Python then drops its caches of every module class.
    with _LOCK:
        wrappers: _Wrappers | None = getattr(nn.Module.__call__, _MARK, None)
        if wrappers is None:
            wrappers = _Wrappers()
            wrappers.wrap()
        wrappers.users += 1
    try:
        yield wrappers
    finally:
        with _LOCK:
            wrappers.users -= 1
            if not wrappers.users:
                wrappers.unwrap()


def uncompiled() -> AbstractContextManager[Any]:
    """Compiled parts run as they are written: the compiler would trace the listener."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class TorchCalls(TorchFunctionMode):
    """For the time of the block, the torch functions of this thread go through a callback.

    Args:
        heard: Callable(function, types, args, kwargs) -> result, as `__torch_function__`.
    """

    def __init__(self, heard: Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self._heard = heard
        self.is_on = False

    def __enter__(self) -> TorchCalls:
        super().__enter__()
        self.is_on = True
        return self

    def __exit__(self, *error: Any) -> None:
        self.is_on = False
        super().__exit__(*error)

    def off(self) -> ExitStack:
        """A block inside of which the callback gets no calls."""
        stack = ExitStack()
        stack.enter_context(_pop_mode_temporarily())
        self.is_on = False
        stack.callback(setattr, self, "is_on", True)
        return stack

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._heard(func, types, args, kwargs or {})


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """For the time of the block, module calls and autograd Functions of this thread go through `listener`."""
    with wrapped() as wrappers:
        own = wrappers.listeners.setdefault(threading.get_ident(), [])
        own.append(listener)
        try:
            with uncompiled():
                yield
        finally:
            own.pop()
