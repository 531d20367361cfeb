import pytest
import torch
from torch import nn

from frostline.selection.live_tensors import live_tensors
from helpers_selection import Residual


def test_calls_come_in_the_order_in_which_they_begin():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    found = live_tensors(model, torch.randn(4, 4))
    assert list(found.calls) == ["", "0", "1", "2"]
    assert found.calls[""].first < found.calls["0"].first < found.calls["0"].last < found.calls["2"].first
    assert found.num_samples == 4


def test_beside_a_shortcut_two_tensors_live():
    model = Residual()
    found = live_tensors(model.eval(), torch.randn(4, 8, 5, 5))
    size = 4 * 8 * 5 * 5 * 4
    assert found.sizes_at(found.calls["conv1"].first) == [size]
    assert found.sizes_at(found.calls["conv2"].first) == [size, size]


def test_what_does_not_follow_the_batch_does_not_count():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            table = torch.arange(7, dtype=torch.float32)
            return self.b(self.a(x)) + table.sum()

    found = live_tensors(Positions(), torch.randn(4, 4))
    assert found.sizes_at(found.calls["b"].first) == [4 * 4 * 4]


class Masked(nn.Module):
    """Words of 4 numbers, with a mask over pairs of words that is larger than the words."""

    def __init__(self, *, in_place=False):
        super().__init__()
        self.words, self.a, self.b, self.in_place = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4), in_place

    def forward(self, ids, mask):
        pairs = (mask[:, None] * mask[:, :, None]).float()
        h = self.words(ids)
        if self.in_place:
            other = torch.zeros_like(h)
            other[:] = h
            h = other
        return self.b(pairs @ self.a(h)) + pairs.sum((1, 2))[:, None, None]


@pytest.mark.parametrize("in_place", [False, True])
def test_masks_do_not_count_and_what_layers_computed_does(in_place):
    ids, mask = torch.randint(0, 9, (3, 11)), torch.ones(3, 11, dtype=torch.int64)
    found = live_tensors(Masked(in_place=in_place), (ids, mask))
    words = 3 * 11 * 4 * 4
    assert found.sizes_at(found.calls["a"].first) == [words]
    assert found.sizes_at(found.calls["b"].first) == [words]


def test_inputs_that_pass_by_layers_count():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(self.a(x)) * (x * 2)

    found = live_tensors(Beside(), torch.randn(4, 4))
    assert found.sizes_at(found.calls["b"].first) == [64, 64]


def test_hooks_are_taken_off_again_also_after_an_error():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("of the model")

    model = nn.Sequential(nn.Linear(4, 4), Broken(4, 2))
    try:
        live_tensors(model, torch.randn(4, 4))
    except RuntimeError as error:
        assert str(error) == "of the model"
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_repeated_calls_are_counted():
    shared = nn.Linear(4, 4)
    found = live_tensors(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(4, 4))
    assert found.calls["0"].times == 2
