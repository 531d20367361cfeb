"""The head of a network is exchanged, the backbone ported, and the right head put back."""

from pathlib import Path

import pytest
import torch
from torch import nn

from exams.porting.partials import head_of, headless
from exams.porting.stored import stored
from exams.porting.trials import EXACT, REFUSED

NETWORKS = {
    f"{each.framework}/{each.name}": each for each in stored(Path(__file__).parents[1] / "porting/files/networks")
}


@pytest.mark.parametrize(("name", "outcome"), [("keras/conv2d", REFUSED), ("torch/bidirectional", EXACT)])
def test_a_backbone_is_judged_by_the_outputs_of_the_whole(name, outcome):
    network = NETWORKS[name]
    verdict = headless(network, network.files[0])
    assert verdict.outcome == outcome
    assert bool(verdict.detail) == (outcome == REFUSED)


def test_a_network_without_a_linear_layer_at_its_end_is_not_judged():
    assert headless(NETWORKS["keras/depthwise"], "model.keras") is None


def test_the_head_is_the_layer_that_gives_the_outputs():
    module = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    assert head_of(module, [torch.rand(2, 3)]) == "2"
    assert head_of(nn.Sequential(*module, nn.ReLU()), [torch.rand(2, 3)]) == ""
    assert head_of(nn.Sequential(module[0], module[0]), [torch.rand(2, 3)]) == ""
    module[2].weight = module[0].weight
    assert head_of(module, [torch.rand(2, 3)]) == ""
