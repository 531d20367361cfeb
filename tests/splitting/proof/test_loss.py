import contextvars
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, x

KEPT = SimpleNamespace(value=None)
SEEN = []
CONTEXT = contextvars.ContextVar("kept")
COUNT = 0


def low_and(leave):
    """A model whose frozen layer is seen by somebody else."""

    def forward(m, batch):
        low = m.low(batch)
        leave(m, low)
        return m.high(low)

    return Net(forward)


def hooked(place, take):
    model, kept = low_and(lambda m, low: None), {}
    (model.get_submodule(place) if place else model).register_forward_hook(
        lambda module, args, output: kept.update(value=take(output))
    )
    return model, lambda: kept["value"]


def _left_in_namespace(m, low):
    KEPT.value = low.mean()


LEFT = {
    "a hook on a frozen layer": lambda: hooked("low", torch.mean),
    "a hook that keeps rows": lambda: hooked("low", lambda rows: rows[:, :1]),
    "a hook on the model": lambda: hooked("", lambda output: output.detach().mean()),
    "a namespace": lambda: (low_and(_left_in_namespace), lambda: KEPT.value),
    "a global list": lambda: (low_and(lambda m, low: SEEN.append(low.mean())), lambda: SEEN[-1]),
    "a context variable": lambda: (low_and(lambda m, low: CONTEXT.set(low.mean())), CONTEXT.get),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LEFT)
def test_a_function_that_gets_values_beside_the_output_is_refused(name, training):
    model, read = LEFT[name]()
    split = fl.split(model, x(4))
    with pytest.raises(fl.SplitError, match="more than the model's output") as error:
        split.check_loss(lambda output, target: (output * read()).sum(), x(4), x(4), training=training)
    assert "over the model" in error.value.received or "over the trainable part" in error.value.received
    split.check_loss(F.mse_loss, x(4), x(4), training=training)


def test_an_attribute_of_the_output_is_not_there_in_a_cached_training():
    def forward(m, batch):
        low = m.low(batch)
        output = m.high(low)
        output.extra = low.mean()
        return output

    split = fl.split(Net(forward), x(4))
    with pytest.raises(fl.SplitError, match="more than the model's output") as error:
        split.check_loss(lambda output, target: output.extra, x(4), None, training=True)
    assert "AttributeError" in error.value.received


def test_a_hook_on_a_trainable_layer_runs_in_the_head():
    model, read = hooked("high", torch.mean)
    fl.split(model, x(4)).check_loss(lambda output, target: output.sum() * read(), x(4), None, training=True)


class Counting(nn.Module):
    """A loss that counts its calls, in every way."""

    def __init__(self):
        super().__init__()
        self.calls, self.log = 0, []
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, output, target):
        global COUNT
        COUNT += 1
        self.calls += 1
        self.log.append(self.calls)
        self.mean.lerp_(output.detach().mean(), 0.1)
        return F.mse_loss(output, target) * (1 + self.calls)


def test_what_a_loss_keeps_is_put_back_and_that_it_counts_is_not_held_against_it():
    counting, calls, outside = Counting(), 0, []

    def closed(output, target):
        nonlocal calls
        calls += 1
        outside.append(calls)
        return output.mean()

    split = fl.split(Net(lambda m, batch: m.high(m.low(batch))), x(4))
    for loss in (closed, counting):
        split.check_loss(loss, x(4), x(4), training=True)
    assert (calls, outside, counting.calls, counting.log, COUNT, float(counting.mean)) == (0, [], 0, [], 0, 0.0)


def test_a_loss_that_fails_is_left_to_the_training():
    split = fl.split(Net(lambda m, batch: m.high(m.low(batch))), x(4))
    split.check_loss(lambda output, target: output.nothing, x(4), None, training=True)
    for received in (None, "mse"):
        with pytest.raises(fl.DataError, match="function"):
            split.check_loss(received, x(4), None, training=True)


def test_noise_of_the_trainable_part_is_the_same_on_both_sides():
    model = Net(lambda m, batch: F.dropout(m.high(m.low(batch)), 0.5, m.training))
    fl.split(model, x(4)).check_loss(lambda output, target: (output * torch.rand(D)).sum(), x(4), None, training=True)


class Mixing:
    """A loss with a generator of its own."""

    def __init__(self):
        self.own = np.random.default_rng(0)

    def __call__(self, output, target):
        return output.sum() * self.own.random() + random_of_closure.random()


random_of_closure = random.Random(0)


def test_a_loss_may_draw_from_a_generator_of_its_own():
    split = fl.split(Net(lambda m, batch: m.high(m.low(batch))), x(4))
    mixing = Mixing()
    first = np.random.default_rng(0).random()
    split.check_loss(mixing, x(4), None, training=True)
    assert mixing.own.random() == first
    split.check_loss(lambda output, target: next(rounding) * output.sum(), x(4), None, training=True)
    assert list(rounding) == [1e-9, 3e-9]  # not asked


rounding = iter([1e-9, 3e-9])


def test_values_next_to_nothing_are_compared_as_such():
    split = fl.split(Net(lambda m, batch: m.high(m.low(batch))), x(4))
    split.check_loss(
        lambda output, target: float(output.requires_grad) * 1e-9 * random.random(), x(4), None, training=True
    )


def test_a_size_that_is_left_is_found_too():
    model, read = hooked("low", len)
    split = fl.split(model, x(4))
    with pytest.raises(fl.SplitError, match="more than the model's output"):
        split.check_loss(lambda output, target: output.sum() / read(), x(4), None, training=True)


class Centred(nn.Linear):
    """A trainable layer that follows a mean of its outputs."""

    def __init__(self):
        super().__init__(D, D)
        self.register_buffer("centre", torch.zeros(D))

    def forward(self, batch):
        made = super().forward(batch)
        if self.training:
            self.centre.lerp_(made.detach().mean(0), 0.5)
        return made - self.centre


def test_buffers_that_the_head_moves_are_no_matter():
    model = Net(lambda m, batch: m.high(m.low(batch)), high=Centred())
    fl.split(model, x(4)).check_loss(F.mse_loss, x(4), x(4), training=True)


def test_what_the_head_itself_refuses_is_not_blamed_on_the_loss(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    fl.freeze(model, through="0")
    split = fl.split(model, torch.randn(4, 4))

    def refuse(*features):
        raise fl.SplitError(what="Another size.", where="here", received="8", do="drop it.")

    monkeypatch.setattr(split.head, "forward", refuse)
    with pytest.raises(fl.SplitError, match="Another size"):
        split.check_loss(lambda output, target: output.mean(), torch.randn(4, 4), torch.zeros(4), training=True)
