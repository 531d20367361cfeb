import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.splitting.calls.containers import tensors_in
from helpers_fit import fit
from helpers_splitting import D, Net, check, x


def _attribute(m, high):
    m.penalty = high.pow(2).mean()


def _list(m, high):
    m.penalties.clear()
    m.penalties.append(high.pow(2).mean())


def _table(m, high):
    m.kept["penalty"] = (high.pow(2).mean(), "a note")


WAYS = {
    "an attribute": (_attribute, lambda m: m.penalty),
    "a list": (_list, lambda m: m.penalties[0]),
    "a table": (_table, lambda m: m.kept["penalty"][0]),
}


def leaving(leave):
    def forward(m, batch):
        high = m.high(m.low(batch))
        leave(m, high)
        return high

    model = Net(forward)
    model.penalty, model.penalties, model.kept = torch.zeros(()), [], {}
    return model


@pytest.mark.parametrize("name", WAYS)
def test_what_forward_leaves_in_an_attribute_the_head_leaves_there_too(name):
    leave, read = WAYS[name]
    model = leaving(leave)
    split = fl.split(model, x(4))
    assert not model.penalties
    for batch in (x(3), x(5)):
        model(batch)
        expected = read(model).detach().clone()
        split.head(*split.extract(batch))
        assert torch.equal(read(model), expected)
        assert read(model).requires_grad


def test_a_loss_that_reads_what_only_the_frozen_part_leaves_is_refused():
    model = leaving(lambda m, high: None)
    model._forward = lambda m, batch: m.high(_kept(m, m.low(batch)))
    split = fl.split(model, x(4))
    batch = (x(3), torch.zeros(3))
    split.check_loss(lambda output, target: output.mean(), *batch, training=True)
    for loss in (lambda output, target: output.mean() * model.scale, Scaled(model)):
        with pytest.raises(fl.SplitError, match="reads 'scale'"):
            split.check_loss(loss, *batch, training=True)


class Scaled(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.models = [model]

    def forward(self, output, target):
        return _read(self, output)


def _read(loss, output):
    return output.mean() * loss.models[0].scale


def _kept(m, low):
    m.scale = low.abs().mean()
    return low


def _leaving(leave):
    def forward(m, batch):
        low = m.low(batch)
        leave(m, m.high.weight.pow(2).sum() * low.mean())
        return m.high(low)

    return forward


def _on_itself(m, value):
    m.aux = value


def _on_a_layer(m, value):
    m.code.aux = value


READ = {"an attribute": (_on_itself, lambda m: m.aux), "one of a layer": (_on_a_layer, lambda m: m.code.aux)}


@pytest.mark.parametrize("name", READ)
def test_a_loss_that_reads_what_forward_left_gets_what_it_gets_without_a_cache(tmp_path, name):
    leave, read = READ[name]
    samples = torch.utils.data.TensorDataset(x(12), torch.arange(12) % 2)
    trained = []
    for cache in (tmp_path, False):
        torch.manual_seed(0)
        model = Net(_leaving(leave))
        model.aux = model.code.aux = torch.zeros(())
        fit(model, samples, loss=lambda output, target, m=model: F.cross_entropy(output, target) + read(m),
            epochs=2, batch_size=5, cache=cache)  # fmt: skip
        trained.append(model.high.weight.detach())
    torch.testing.assert_close(*trained)


def test_what_was_there_before_and_parameters_are_no_matter():
    model = Net(lambda m, batch: m.high(m.low(batch)) * m.scales[0].sum())
    model.scales = [model.code.weight]
    assert fl.split(model, x(4)).frontier[0].shape[0] == D


def test_entries_that_forward_does_not_set_stay_and_are_watched():
    def forward(m, batch):
        high = m.high(m.low(batch))
        m.config["penalty"] = high.pow(2).mean()
        return high * m.config["scale"]

    model = Net(forward)
    model.config = {"penalty": None, "scale": 0.5}
    split = fl.split(model, x(4))
    features = split.extract(x(3))
    model.config["new"] = 1
    split.head(*features)
    assert model.config["penalty"].requires_grad
    assert (model.config["scale"], model.config["new"]) == (0.5, 1)
    model.config["scale"] = 5.0
    with pytest.raises(fl.SplitError, match="changed after it was split") as error:
        split.head(*features)
    assert "scale" in error.value.where


def test_names_that_any_code_loads_say_nothing_of_a_loss():
    class Normalised(nn.Linear):
        def forward(self, batch):
            self.mean, self.shape = batch.mean(1, keepdim=True), batch.shape
            return super().forward(batch - self.mean)

    model = Net(lambda m, batch: m.high(m.low(batch)), low=Normalised(D, D).requires_grad_(False))
    split = fl.split(model, x(4))
    split.check_loss(lambda output, target: (output - target).mean() / output.shape[1], x(4), x(4), training=True)
    with pytest.raises(fl.SplitError, match="more than the model's output"):
        split.check_loss(lambda output, target: (output * model.low.mean).mean(), x(4), x(4), training=True)


def test_lists_and_tables_that_forward_fills_stay_the_same_objects():
    for leave, name in ((_list, "penalties"), (_table, "kept")):
        model = leaving(leave)
        held = getattr(model, name)
        split = fl.split(model, x(4))
        split.head(*split.extract(x(3)))
        assert getattr(model, name) is held
        assert len(held) == 1


MADE = {"a list": lambda value: [value], "a table": lambda value: {"a": value}, "a tensor": lambda value: value}


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("held", [None, [], {}, 0.0])
def test_what_stands_in_an_attribute_may_be_replaced_by_anything(made, held):
    def forward(m, batch):
        high = m.high(m.low(batch))
        m.left = MADE[made](high.pow(2).mean())
        return high

    model = Net(forward)
    model.left = held
    split, batch = fl.split(model, x(4)), x(3)
    assert model.left == held
    model(batch)
    (expected,) = tensors_in(model.left)
    split.head(*split.extract(batch))
    assert type(model.left) is type(MADE[made](expected))
    assert torch.equal(*tensors_in(model.left), expected)


class Counting(nn.Linear):
    def __init__(self, is_rebound):
        super().__init__(D, D)
        self.is_rebound = is_rebound
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, batch):
        self.calls = self.calls + 1 if self.is_rebound else self.calls.add_(1)
        return super().forward(batch)


@pytest.mark.parametrize("is_rebound", [True, False])
def test_a_buffer_of_a_trainable_layer_moves_with_the_head(is_rebound):
    model = Net(lambda m, batch: m.high(m.low(batch)), high=Counting(is_rebound))
    split = check(model, x(4), names=["low"])
    split.head.train()
    split.head(*split.extract(x(4)))
    assert model.high.calls == 1


def test_a_table_that_is_made_in_the_first_pass_is_taken_after_one_as_the_error_says():
    class Placed(nn.Linear):
        def __init__(self):
            super().__init__(D, D)
            self.register_buffer("table", None, persistent=False)

        def forward(self, batch):
            if self.table is None:
                self.table = torch.arange(D).float().cos()
            return super().forward(batch) * self.table

    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.low = Placed().requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="'low.table' is replaced in forward") as error:
        fl.split(model, x(4))
    assert error.value.do.startswith("run the model on a batch once before")
    model(x(4))
    check(model, x(4), names=["low"])


@pytest.mark.parametrize(("is_rebound", "how"), [(True, "is replaced in forward"), (False, "is written during")])
def test_a_buffer_of_a_frozen_layer_must_stand_still(is_rebound, how):
    model = Net(lambda m, batch: m.high(m.low(batch)))
    model.low = Counting(is_rebound).requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match=how):
        fl.split(model, x(4))
