"""Calls of modules are heard in the thread that listens, as long as it listens, and torch is as before afterwards."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn

from frostline.splitting.listening import listening, wrapped


class Ear:
    """Writes down which modules were called."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def module_called(self, module: nn.Module, args: Any, kwargs: Any, run: Any) -> Any:
        self.heard.append(type(module).__name__)
        return run()

    def autograd_function_called(self, function: Any, args: Any, run: Any) -> Any:
        self.heard.append(function.__name__)
        return run()


def test_torch_is_as_before_after_blocks_inside_of_blocks() -> None:
    call, apply = nn.Module.__call__, torch.autograd.Function.__dict__["apply"]
    with wrapped():
        once = nn.Module.__call__
        with listening(Ear()), wrapped():
            assert nn.Module.__call__ is once
        assert nn.Module.__call__ is once
    assert nn.Module.__call__ is call
    assert torch.autograd.Function.__dict__["apply"] is apply


def test_the_innermost_listener_hears() -> None:
    outer, inner = Ear(), Ear()
    with listening(outer):
        with listening(inner):
            nn.ReLU()(torch.ones(1))
        nn.Tanh()(torch.ones(1))
    assert (outer.heard, inner.heard) == (["Tanh"], ["ReLU"])


def test_a_thread_that_stops_listening_does_not_stop_another() -> None:
    ear, is_inside, may_end = Ear(), threading.Event(), threading.Event()

    def first() -> None:
        with listening(Ear()):
            is_inside.set()
            may_end.wait(10)

    call = nn.Module.__call__
    thread = threading.Thread(target=first)
    thread.start()
    is_inside.wait(10)
    with listening(ear):
        may_end.set()
        thread.join()
        nn.ReLU()(torch.ones(1))
    assert ear.heard == ["ReLU"]
    assert nn.Module.__call__ is call
