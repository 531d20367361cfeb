import pytest
import torch

import frostline as fl
from helpers_splitting import Net, check, x


def _model(move):
    model = Net(lambda m, batch: m.high(m.low(batch)) + move(m, m.low(batch), m.high(m.low(batch))))
    model.register_buffer("center", torch.zeros(8))
    return model


def _replaced(m, value):
    m.center = value.detach().mean(0)
    return m.center


def test_a_buffer_that_is_replaced_by_a_trainable_value_is_replaced_by_the_head():
    model = _model(lambda m, low, high: _replaced(m, high))
    split, batch = check(model, x(4)), x(3)
    model(batch)
    expected = model.center.clone()
    model.center.zero_()
    split.head(*split.extract(batch))
    assert torch.equal(model.center, expected)


def test_a_buffer_that_follows_the_frozen_part_alone_is_refused_by_name():
    with pytest.raises(fl.NotCacheable, match="'low.center'"):
        model = Net(lambda m, batch: m.high(m.low(batch)))
        model.low.register_buffer("center", torch.zeros(8))
        model.low.register_forward_hook(lambda m, given, made: m.center.add_(made.mean(0)) + made)
        fl.split(model, x(4))
