"""What a loss reads from the model itself, in a cached and an uncached training."""

import pytest
import torch
import torch.nn.functional as F

import frostline as fl
from helpers_fit import fit
from helpers_splitting import D, Net, unanswered, x


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


LEFT = {"an attribute": (_on_itself, lambda m: m.aux), "one of a layer": (_on_a_layer, lambda m: m.code.aux)}


@pytest.mark.parametrize("name", LEFT)
def test_a_loss_that_reads_what_forward_left_gets_what_it_gets_without_a_cache(tmp_path, name):
    leave, read = LEFT[name]
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


def test_where_no_frozen_layer_is_called_whole_it_is_refused():
    def forward(m, batch):
        low = unanswered(m, batch)
        m.aux = m.high.weight.pow(2).sum() * low.mean()
        return m.high(low)

    with pytest.raises(fl.SplitError, match="leaves a trainable value in the attribute 'aux'") as error:
        fl.split(Net(forward), x(4))
    assert "return that value" in error.value.do


def test_what_was_there_before_and_parameters_are_no_matter():
    model = Net(lambda m, batch: m.high(m.low(batch)) * m.scales[0].sum())
    model.scales = [model.code.weight]
    assert fl.split(model, x(4)).frontier[0].shape[0] == D
