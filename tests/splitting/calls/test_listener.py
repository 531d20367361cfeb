"""Calls of modules are heard in the thread that listens, as long as it listens, and torch is as before afterwards."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from frostline.splitting.calls.listener import Listener, listening, wrapped
from helpers_splitting import Net, check, x


class Ear(Listener):
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


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("place", ["low", "high"])
@pytest.mark.parametrize("made", [partial(torch.compile, backend="eager"), torch.jit.script])
def test_compiled_and_scripted_parts_are_heard_as_they_are_written(place, made):
    model = Net(lambda m, batch: m.high(m.low(batch)))
    setattr(model, place, made(getattr(model, place)))
    model(x(4))  # compiled by its first call
    assert [tensor.name for tensor in check(model, x(4)).frontier] in (["low"], ["low._orig_mod"])


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_forward_that_was_compiled_in_its_place_is_heard_as_it_is_written():
    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.forward = torch.compile(model.forward, backend="eager")
    check(model, x(4), names=["low"])
