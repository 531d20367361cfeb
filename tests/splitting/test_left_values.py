import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import Net, x


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
    split.check_reads(lambda output, target: output.mean())
    with pytest.raises(fl.SplitError, match="reads 'scale'"):
        split.check_reads(lambda output, target: output.mean() * model.scale)
    with pytest.raises(fl.SplitError, match="reads 'scale'"):
        split.check_reads(Scaled(model))


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
