import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, unanswered, x


class Switch(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.is_on = nn.Linear(D, D), False

    def forward(self, batch):
        return self.linear(batch) * (2 if self.is_on else 1)


def test_an_attribute_that_forward_sets_on_a_layer_that_is_called_whole_is_refused():
    def forward(m, batch):
        m.switch.is_on = not m.switch.is_on
        return m.switch(unanswered(m, batch))

    with pytest.raises(fl.FrostlineError):
        fl.split(Net(forward, switch=Switch()), x(4))


def _by_data(m, low):
    m.mean.data = m.mean.data * 0.9 + low.detach().mean(0) * 0.1


def _by_copy(m, low):
    m.mean.copy_(m.mean * 0.9 + low.detach().mean(0) * 0.1)


def _by_name(m, low):
    m.mean = m.mean * 0.9 + low.detach().mean(0) * 0.1


@pytest.mark.parametrize("write", [_by_data, _by_copy, _by_name])
@pytest.mark.parametrize("is_frozen_value", [True, False])
def test_a_buffer_that_training_moves_moves_in_the_head_as_in_the_model(write, is_frozen_value):
    def forward(m, batch):
        low = m.low(batch)
        high = m.high(low)
        if m.training:
            write(m, low if is_frozen_value else high)
        return high - m.mean

    model = Net(forward)
    model.register_buffer("mean", torch.zeros(D))
    try:
        split = fl.split(model, x(4))
    except fl.FrostlineError:
        assert is_frozen_value  # a buffer that follows the frozen part alone may be refused
        return
    model.train()
    split.head.train()
    batches = [x(3), x(5)]
    features, start = [split.extract(batch) for batch in batches], model.mean.clone()
    expected = [model(batch).detach() for batch in batches]
    moved = model.mean.clone()
    with torch.no_grad():
        model.mean.copy_(start)
    found = [split.head(*own).detach() for own in features]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(model.mean, moved)


def test_running_statistics_of_a_layer_without_weights_are_those_of_the_head():
    model = Net(lambda m, batch: m.high(m.norm(m.low(batch))), norm=nn.BatchNorm1d(D, affine=False))
    split = fl.split(model, x(4))
    features = split.extract(x(6))
    model.train()
    split.head.train()
    for _ in range(3):
        split.head(*features)
    model.eval()
    split.head.eval()
    batch = x(5)
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


def test_the_modes_of_the_head_are_those_that_the_model_sets():
    class Own(Net):
        def train(self, mode=True):
            super().train(mode)
            self.norm.eval()
            return self

    model = Own(lambda m, batch: m.high(m.norm(m.low(batch))), norm=nn.BatchNorm1d(D))
    split = fl.split(model, x(4))
    split.head.train()
    assert split.head.training
    assert not model.norm.training
    batch = x(6)
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


def test_a_hook_on_an_activation_changes_gradients_in_the_head_too():
    def forward(m, batch):
        high = m.high(m.low(batch))
        if high.requires_grad:
            high.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
        return high

    model = Net(forward)
    split = fl.split(model, x(4))
    gradients = []
    batch = x(5)
    for run in (lambda: model(batch), lambda: split.head(*split.extract(batch))):
        model.zero_grad()
        (run() * 9).sum().backward()
        gradients.append(model.high.weight.grad.clone())
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        split.head(*split.extract(batch))


@pytest.mark.parametrize("is_training", [True, False])
def test_what_is_remembered_in_one_mode_alone_is_refused(is_training):
    def forward(m, batch):
        high = m.high(m.low(batch))
        if m.training is is_training:
            high = high + m.last
            m.last = high.detach().mean(0)
        return high

    model = Net(forward)
    model.last = torch.zeros(D)
    for mode in (True, False):
        with pytest.raises(fl.FrostlineError):
            fl.split(model.train(mode), x(4))


def test_a_hook_that_holds_a_tensor_of_its_batch_is_refused():
    def forward(m, batch):
        low = unanswered(m, batch)
        high = m.high(low)
        if high.requires_grad:
            high.register_hook(lambda gradient: gradient * low)
        return high

    with pytest.raises(fl.SplitError, match="hook on an activation holds values of one batch"):
        fl.split(Net(forward), x(4))


def test_a_table_of_numbers_by_size_may_not_grow():
    counts = {}

    def forward(m, batch):
        counts[len(counts)] = 1
        return m.high(m.low(batch)) * (2.0 if len(counts) > 1000 else 1.0)

    with pytest.raises(fl.NotCacheable, match="moves values|keeps state"):
        fl.split(Net(forward), x(4))
