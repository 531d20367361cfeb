import pytest
import torch
from torch import nn

from frostline.health import statistics as stats


def test_the_first_tensor_of_any_output():
    x = torch.ones(2, 3)
    packed = nn.utils.rnn.pack_sequence([torch.ones(2, 3), torch.ones(1, 3)])
    assert stats.first_tensor((x, None)) is x
    assert stats.first_tensor([[(x,)]]) is x
    assert torch.equal(stats.first_tensor((packed, None)), packed.data)
    for other in (None, {"x": x}, (), torch.ones(2).long(), torch.ones(0, 3), torch.tensor(1.0), x.to_sparse()):
        assert stats.first_tensor(other) is None


def test_units_are_channels_of_convolutions_and_the_last_axis_elsewhere():
    assert stats.units_of(torch.zeros(2, 5, 4, 4), is_channels_first=True).shape == (32, 5)
    assert stats.units_of(torch.zeros(2, 7, 5), is_channels_first=False).shape == (14, 5)
    assert stats.units_of(torch.zeros(6), is_channels_first=True).shape == (6, 1)
    assert stats.units_of(torch.zeros(2, 3).half(), is_channels_first=False).dtype == torch.float32


def test_large_outputs_are_thinned():
    values = stats.units_of(torch.zeros(2**15, 8), is_channels_first=False)
    assert values.shape == (2**13, 8)


def test_moments_know_constant_units():
    values = torch.randn(1000, 4) * 2 + 1
    values[:, 0] = 3.0
    mean, deviation, constant = stats.moments(values).tolist()
    assert mean == pytest.approx(float(values.mean()))
    assert deviation == pytest.approx(float(values.std(correction=0)), rel=1e-4)
    assert constant == 0.25


def test_a_unit_is_active_if_it_ever_was():
    values = torch.tensor([[0.0, 0.0, -1.0], [0.0, 2.0, -1.0]])
    assert stats.is_active(values).tolist() == [False, True, False]
    assert [name for name in ("relu", "relu6", "tanh", "gelu", "") if stats.can_die(name)] == ["relu", "relu6"]


@pytest.mark.parametrize(("activation", "function"), [("tanh", torch.tanh), ("sigmoid", torch.sigmoid)])
def test_saturation_is_by_slope(activation, function):
    inputs = torch.tensor([[0.0, 20.0], [1.0, -20.0]])
    assert float(stats.saturation(function(inputs), activation)) == 0.5
    assert stats.saturation(inputs, "relu") is None


def test_units_that_give_the_same_value_for_all_samples_do_not_deviate():
    values = torch.full((63, 4), 0.3) * torch.tensor([1.0, 1e20, -1e-20, 0.0])  # the mean of the first is 0.3 + 3e-8
    mean, deviation, constant = stats.moments(values[:, :1]).tolist()
    assert (mean, deviation, constant) == (pytest.approx(0.3), 0.0, 1.0)
    assert torch.isfinite(stats.moments(values)).all()
