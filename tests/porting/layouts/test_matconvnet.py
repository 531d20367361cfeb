import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.core.errors import PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, port_into, source_of


def test_filters_are_permuted():
    filters = numbers(3, 3, 2, 2)
    made = port_into(nn.Conv2d(2, 2, 3), {"filters": filters, "biases": numbers(2)}, "matconvnet")
    assert torch.equal(made.weight, filters.permute(3, 2, 0, 1))


def test_a_filter_as_large_as_the_map_is_a_linear_layer():
    filters, maps = numbers(2, 3, 4, 5), numbers(1, 4, 2, 3)
    made = port_into(nn.Linear(24, 5, bias=False), {"filters": filters}, "matconvnet")
    assert torch.allclose(made(maps.flatten(1)), F.conv2d(maps, filters.permute(3, 2, 0, 1)).flatten(1))


def test_a_batch_norm_divides_by_sigma_whatever_its_epsilon():
    leaves = {name: numbers(4, seed=at) for at, name in enumerate(("multipliers", "biases", "mean"))}
    leaves["sigma"] = torch.tensor([0.5, 1, 2, 30])
    inputs = numbers(2, 4, 3, 3)
    for eps in (1e-3, 1e-5):
        made = port_into(nn.BatchNorm2d(4, eps=eps), leaves, "matconvnet").eval()
        mean, sigma, scale, shift = (
            leaves[name].reshape(1, 4, 1, 1) for name in ("mean", "sigma", "multipliers", "biases")
        )
        assert torch.allclose(made(inputs), (inputs - mean) / sigma * scale + shift, atol=1e-6)


def test_what_is_no_such_layer_is_none():
    assert port_into(nn.ConvTranspose2d(2, 2, 3), {"filters": numbers(3, 3, 2, 2)}, "matconvnet") is None


def test_a_sigma_smaller_than_the_epsilon_of_the_module_is_refused():
    leaves = {name: numbers(4, seed=at) for at, name in enumerate(("multipliers", "biases", "mean"))}
    source = source_of("matconvnet", {"bn": {**leaves, "sigma": torch.tensor([0.01, 1, 1, 1])}})
    model = nn.Sequential(nn.BatchNorm2d(4, eps=1e-3))
    with pytest.raises(PortError, match="epsilon of the module is larger than the file allows"):
        carry_out(make_plan(source, "file", model), model)


def test_small_sigmas_come_back_as_nearly_as_float32_tells():
    leaves = {name: numbers(1000, seed=at) for at, name in enumerate(("multipliers", "biases", "mean"))}
    sigma = torch.linspace(0.0033, 2, 1000)  # epsilon is 0.00316 squared
    model = nn.Sequential(nn.BatchNorm2d(1000))
    carry_out(make_plan(source_of("matconvnet", {"bn": {**leaves, "sigma": sigma}}), "file", model), model)
    assert torch.allclose((model[0].running_var + 1e-5).sqrt(), sigma, rtol=1e-6)
