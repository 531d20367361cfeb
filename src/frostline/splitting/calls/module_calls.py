"""Hear every module call and every custom autograd Function of one run, in this thread only.

This is the one place that changes torch: `nn.Module.__call__`, `autograd.Function.apply` and the calls of scripted
functions are wrapped for the time of one run or several, and put back on errors too. Other torch functions need no
patch: a `TorchFunctionMode` hears them.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Listener(Protocol):
    """What a run tells."""

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        """A module is called; `run()` is the call itself, hooks included."""
        ...

    def autograd_function_called(
        self, function: type[torch.autograd.Function], args: tuple[Any, ...], run: Callable[[], Any]
    ) -> Any:
        """A custom autograd Function is applied; `run()` is the application."""
        ...


class ScriptListener(Protocol):
    """A run that tells calls of scripted functions, too."""

    def script_called(self, script: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]) -> Any:
        """A scripted function, or a method of a scripted module, is called; `run()` is the call itself."""
        ...


_SCRIPTS: Any = (torch.jit.ScriptFunction, torch._C.ScriptMethod)


class _Ears:
    """Who listens in which thread, while torch is wrapped; the last user puts torch back."""

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

        setattr(call, _EARS, self)
        nn.Module.__call__ = call
        torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment]
        for kind, plain_script in zip(_SCRIPTS, self.scripts, strict=True):
            kind.__call__ = self._hearing_script(plain_script)

    def _hearing_script(self, plain_script: Any) -> Any:
        def call(script: Any, *args: Any, **kwargs: Any) -> Any:
            listening_here = self.listeners.get(threading.get_ident())
            heard = getattr(listening_here[-1], "script_called", None) if listening_here else None
            if heard is None:
                return plain_script(script, *args, **kwargs)
            return heard(script, args, kwargs, lambda: plain_script(script, *args, **kwargs))

        return call

    def unwrap(self) -> None:
        nn.Module.__call__ = self.call
        torch.autograd.Function.apply = self.apply
        for kind, plain_script in zip(_SCRIPTS, self.scripts, strict=True):
            kind.__call__ = plain_script


_EARS = "frostline_ears"
_LOCK = threading.Lock()


@contextmanager
def wrapped() -> Generator[_Ears]:
    """For the time of the block torch's calls can be heard; where they can be, in any thread, nothing is wrapped again.

    To wrap takes a good part of a run of a small model, since Python then forgets what it knows of every module class.
    """
    with _LOCK:
        ears: _Ears | None = getattr(nn.Module.__call__, _EARS, None)
        if ears is None:
            ears = _Ears()
            ears.wrap()
        ears.users += 1
    try:
        yield ears
    finally:
        with _LOCK:
            ears.users -= 1
            if not ears.users:
                ears.unwrap()


def _uncompiled() -> AbstractContextManager[Any]:
    """Compiled parts run as they are written, since a compiler would trace who listens."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """For the time of the block, module calls and autograd Functions of this thread go through `listener`."""
    with wrapped() as ears:
        own = ears.listeners.setdefault(threading.get_ident(), [])
        own.append(listener)
        try:
            with _uncompiled():
                yield
        finally:
            own.pop()
