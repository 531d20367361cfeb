import pytest
import torch
from torch import nn

from frostline.diagnosis.probes.random_weights import frozen_at_random
from helpers_health import sgd


@pytest.mark.parametrize("layer", [nn.Linear(64, 32), nn.Conv2d(8, 16, 3), nn.Linear(400, 100)], ids=str)
def test_a_frozen_layer_as_it_was_drawn_and_one_that_was_trained(layer):
    torch.manual_seed(0)
    layer.reset_parameters()
    assert frozen_at_random(nn.Sequential(layer)) == ()  # it trains
    layer.requires_grad_(False)
    assert frozen_at_random(nn.Sequential(layer)) == ("0",)
    layer.requires_grad_(True)
    inputs = torch.randn(16, *layer.weight.shape[1:]) if layer.weight.dim() == 2 else torch.randn(16, 8, 6, 6)
    optimizer = sgd(layer)
    for _ in range(20):
        optimizer.zero_grad()
        layer(inputs).sub(1.0).square().mean().backward()
        optimizer.step()
    assert frozen_at_random(nn.Sequential(layer.requires_grad_(False))) == ()


def test_other_distributions_and_few_weights_are_not_judged():
    normal = nn.Linear(64, 32).requires_grad_(False)
    nn.init.normal_(normal.weight, std=0.02)
    assert frozen_at_random(nn.Sequential(normal, nn.Linear(4, 4).requires_grad_(False))) == ()
