import torch
from torch import nn

from frostline.diagnosis.monitor.layers import find_layers
from frostline.diagnosis.probes.zero_starts import ZeroStarts, zero_starts


class Block(nn.Module):
    def __init__(self, scale: float):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.gamma = nn.Parameter(torch.full((4,), scale))


def starts(model: nn.Module) -> ZeroStarts:
    return zero_starts(find_layers(model))


def test_layers_whose_matrices_are_zero_are_found():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Conv1d(2, 2, 1), nn.Linear(4, 2))
    for at in (1, 2):
        nn.init.zeros_(model[at].weight)
    nn.init.zeros_(model[0].bias)  # as biases do
    assert starts(model) == ZeroStarts(frozenset({"1", "2"}), frozenset())


def test_frozen_layers_start_at_nothing():
    model = nn.Sequential(nn.Linear(4, 4), Block(0.0)).requires_grad_(False)
    nn.init.zeros_(model[0].weight)
    assert starts(model) == ZeroStarts()


def test_a_small_scale_holds_back_the_layers_of_its_block():
    for scale, held in ((0.0, True), (1e-6, True), (1e-2, True), (0.02, False), (1.0, False)):
        expected = frozenset({"1.first", "1.last"} if held else ())
        assert starts(nn.Sequential(nn.Linear(4, 4), Block(scale), nn.Linear(4, 2))).held == expected


def test_a_scale_whose_values_differ_was_learnt():
    block = Block(0.0)
    with torch.no_grad():
        block.gamma[0] = 1e-3
    assert starts(nn.Sequential(nn.Linear(4, 4), block)).held == frozenset()


def test_the_scale_of_a_norm_holds_back_the_block_around_it():
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    nn.init.zeros_(block[1].weight)
    assert starts(nn.Sequential(nn.Linear(4, 4), block, nn.Linear(4, 2))).held == {"1.0"}


def test_lazy_layers_have_no_values_yet():
    assert starts(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))) == ZeroStarts()


def test_shares_of_layers_that_start_at_zero_are_left_out():
    assert ZeroStarts(frozenset({"b"})).without({"a": 0.5, "b": 1.0}) == [("a", 0.5)]
