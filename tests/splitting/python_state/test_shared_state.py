from contextvars import ContextVar

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.python_state.shared_state import SharedState
from helpers_splitting import Net, check, unanswered, x

TABLE = {"count": 0, "scale": 1.0}


class Shared:
    count = 0


class Holder:
    def __init__(self):
        self.count = 0


class Counting(nn.Linear):
    """A layer that leaves a number of its batch somewhere."""

    def __init__(self, leave, holder):
        super().__init__(8, 8)
        self.leave, self.holder, self.count, self.info = leave, holder, 0, {"count": 0}

    def forward(self, batch):
        made = super().forward(batch)
        self.leave(self, int((made > 100).sum()))
        return made


def _left(layer, count):
    layer.count = count


def _left_in_table(layer, count):
    layer.info["count"] = count


def _left_in_global(layer, count):
    TABLE["count"] = count


def _left_in_class(layer, count):
    Shared.count = count


def _left_in_object(layer, count):
    layer.holder.count = count


LEFT = {
    "an attribute": (_left, lambda m, layer: layer.count),
    "an entry of a table": (_left_in_table, lambda m, layer: layer.info["count"]),
    "a global table": (_left_in_global, lambda m, layer: TABLE["count"]),
    "a class": (_left_in_class, lambda m, layer: Shared.count),
    "an object of both": (_left_in_object, lambda m, layer: m.holder.count),
}


@pytest.fixture(autouse=True)
def _as_before():
    yield
    TABLE.update(count=0, scale=1.0)
    Shared.count = 0


def leaving(name, place, frozen=lambda m, batch: m.low(batch)):
    leave, read = LEFT[name]
    model = Net(lambda m, batch: m.high(frozen(m, batch)) * (3.0 if read(m, getattr(m, place)) else 1.0))
    model.holder = Holder()
    model.add_module(place, Counting(leave, model.holder).requires_grad_(place == "high"))
    return model


@pytest.mark.parametrize("name", LEFT)
def test_a_number_that_a_frozen_layer_leaves_elsewhere_is_a_guard(name):
    model = leaving(name, "low")
    split = fl.split(model, x(4))
    batch = x(3)
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))
    with pytest.raises(fl.SplitError, match="another path"):
        split.extract(x(3) * 10000)


WATCHED = ("a global table", "a class")  # they may be changed by anybody


@pytest.mark.parametrize("name", [name for name in LEFT if name not in WATCHED])
def test_a_number_that_a_trainable_layer_leaves_elsewhere_is_not_taken_for_granted(name):
    with pytest.raises(fl.SplitError, match="handed to Python"):
        fl.split(leaving(name, "high", unanswered), x(4))
    model = leaving(name, "high")
    split, batch = fl.split(model, x(4)), x(3)
    with torch.no_grad():
        model.high.weight *= 1000
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


@pytest.mark.parametrize("name", WATCHED)
def test_a_number_that_a_trainable_layer_leaves_in_what_is_watched_is_refused(name):
    with pytest.raises(fl.SplitError, match="handed to Python"):
        fl.split(leaving(name, "high"), x(4))


def test_a_number_that_a_trainable_layer_finds_elsewhere_is_a_guard():
    class Finding(nn.Linear):
        def forward(self, batch):
            return super().forward(batch) * TABLE["scale"]

    def forward(m, batch):
        TABLE["scale"] = 3.0 if bool(batch.max() > 50) else 1.0
        return m.high(m.low(batch))

    model = Net(forward)
    model.high = Finding(8, 8)
    split = fl.split(model, x(4))
    with pytest.raises(fl.SplitError, match="another path"):
        split.extract(x(3) + 100)


def test_layers_that_keep_to_themselves_share_nothing():
    class Own(nn.Linear):
        def forward(self, batch):
            self.last = super().forward(batch)
            return self.last * TABLE["scale"]

    model = Net(lambda m, batch: m.high(m.low(batch)), aside=Own(8, 8))
    model.low, model.high = Own(8, 8).requires_grad_(False), Own(8, 8)
    shared = SharedState(model)
    assert not any(shared.has(module) for module in (model.low, model.high, model.aside))
    check(model, x(4))


class Collector:
    """A context variable as transformers holds one for the outputs that a call collects."""

    def __init__(self):
        self.variable, self.plain = ContextVar("collected", default=None), None

    def get(self):
        return self.variable.get() if self.plain is None else self.plain

    def set(self, value):
        if value == "elsewhere":
            self.plain = value
        return self.variable.set(value)


COLLECTED = Collector()


class Collecting(nn.Module):
    """Layers around which outputs are collected; what a layer leaves behind is put back, or is not."""

    def __init__(self, *, puts_back=True):
        super().__init__()
        self.first, self.second, self.puts_back = nn.Linear(8, 8), nn.Linear(8, 8), puts_back

    def forward(self, batch):
        token = COLLECTED.set([])
        made = self.second(self.first(batch).relu())
        if COLLECTED.get() is not None and self.puts_back:
            COLLECTED.variable.reset(token)
        return made


def stepwise(m, batch):
    """A trainable part that takes as many steps as the batch has rows, so that no graph holds."""
    made = m.encoder(batch)
    rows = [m.decoder(made[at : at + 1]) for at in range(len(made))]
    return torch.cat(rows) * (3.0 if COLLECTED.get() is not None else 1.0)


def collecting(**options):
    model = Net(stepwise)
    model.encoder, model.decoder = Collecting(**options).requires_grad_(False), Collecting()
    return model


def test_a_context_variable_at_rest_passes_nothing():
    model = collecting()
    shared = SharedState(model)
    shared.note_rest()
    assert shared.has(model.encoder)
    assert not shared.has(model.encoder, beside_contexts=True)
    assert shared.is_at_rest()
    token = COLLECTED.variable.set([])
    assert not shared.is_at_rest()
    COLLECTED.variable.reset(token)
    assert shared.is_at_rest()


def test_a_frozen_module_that_collects_outputs_is_stored_whole():
    model = collecting()
    split, batch = fl.split(model, x(4)), x(3)
    assert [tensor.name for tensor in split.frontier] == ["encoder"]
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


def test_a_context_that_is_left_set_is_no_rest():
    token = COLLECTED.variable.set(None)
    try:
        model = collecting(puts_back=False)
        try:
            split = fl.split(model, x(4))
        except fl.FrostlineError:
            return
        assert "encoder" not in [tensor.name for tensor in split.frontier]
    finally:
        COLLECTED.variable.reset(token)


class Flagged(nn.Module):
    """A frozen encoder that sets a flag on a configuration for the time of a call, as those of transformers do."""

    def __init__(self, config):
        super().__init__()
        self.config, self.first, self.second = config, nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, batch):
        before, self.config.count = self.config.count, 1
        made = self.second(self.first(batch).relu())
        self.config.count = before
        return made


def test_of_a_frozen_module_that_exchanges_values_the_inner_ones_are_answered():
    """It runs itself, as a mixed module does, and its layers give what is stored of them."""
    model = Net(lambda m, batch: torch.cat([m.high(row[None]) for row in m.encoder(batch)]) * (1.0 + m.config.count))
    model.config = Holder()
    model.encoder = Flagged(model.config).requires_grad_(False)
    assert SharedState(model).has(model.encoder)
    split, batch = fl.split(model, x(4)), x(3)
    names = [tensor.name for tensor in split.frontier]
    assert "encoder.second" in names
    assert not any(name == "input.0" or name == "encoder" for name in names)
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))
