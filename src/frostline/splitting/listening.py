"""Hear every module call and every custom autograd Function of one run, in this thread only.

This is the one place that changes torch: `nn.Module.__call__` and `autograd.Function.apply` are wrapped for the
time of a run and put back on errors too. Torch functions need no patch: a `TorchFunctionMode` hears them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
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


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """For the time of the block, module calls and autograd Functions of this thread go through `listener`."""
    thread = threading.get_ident()
    plain_call = nn.Module.__call__
    plain_apply: Any = torch.autograd.Function.__dict__["apply"]

    def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return plain_call(module, *args, **kwargs)
        return listener.module_called(module, args, kwargs, lambda: plain_call(module, *args, **kwargs))

    def apply(cls: type[torch.autograd.Function], *args: Any, **kwargs: Any) -> Any:
        def run() -> Any:
            return plain_apply.__get__(None, cls)(*args, **kwargs)

        if threading.get_ident() != thread or kwargs:
            return run()
        return listener.autograd_function_called(cls, args, run)

    nn.Module.__call__ = call
    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment]
    try:
        yield
    finally:
        nn.Module.__call__ = plain_call
        torch.autograd.Function.apply = plain_apply
