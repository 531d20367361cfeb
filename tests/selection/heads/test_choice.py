"""Which way is chosen, and that it is refused where it would not be the same."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from frostline.selection.heads.choice import make_families
from frostline.selection.variants import find_output_layer
from helpers_sweep import C, H, batch, settings, ways


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(H, C))


class Wrapped(nn.Module):
    """A linear layer, and something behind it."""

    def __init__(self, behind):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.behind = nn.Linear(H, C), behind

    def forward(self, x):
        return self.behind(self.layer(x))


class Twice(nn.Module):
    """The output layer is called before, too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(H, H)

    def forward(self, x):
        return self.layer(F.relu(self.layer(x)))


class Branching(nn.Module):
    """Python reads a value of the trainable part."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.other = nn.Linear(H, H), nn.Linear(H, C)

    def forward(self, x):
        x = self.layer(x)
        return self.other(x if float(x.mean()) > 1e9 else -x)


def normed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(H, 4), nn.BatchNorm1d(4), nn.Linear(4, C))


def families(make, given=({"lr": 0.1}, {"lr": 0.2}), **options):
    head = make()
    layer = find_output_layer(head, batch()[0], ways().pick)
    return make_families(lambda _: make(), settings(list(given)), ways(), batch(), layer, **options)


@pytest.mark.parametrize(
    ("make", "way"),
    [(linear, "flat"), (lambda: Wrapped(nn.LogSoftmax(1)), "stacked"), (lambda: Wrapped(nn.Identity()), "flat"),
     (Twice, "stacked"), (Branching, "looped"), (normed, "looped"),
     (lambda: nn.Sequential(nn.BatchNorm1d(H, affine=False), linear()), "looped")],
)  # fmt: skip
def test_the_way(make, way):
    (heads,) = families(make)
    assert heads.way == way
    assert heads.numbers == [0, 1]


def test_one_head_or_a_callable_is_not_joined():
    assert [heads.way for heads in families(linear, [{}])] == ["looped"]
    assert [heads.way for heads in families(linear, may_join=False)] == ["looped"]
    apart = families(linear, [{}, {"lr": 0.1}, {"optimizer": torch.optim.Adagrad}])
    assert {heads.way: heads.numbers for heads in apart} == {"looped": [2], "flat": [0, 1]}


def test_heads_with_noise_of_their_own_are_apart():
    def noisy():
        return nn.Sequential(nn.Dropout(0.5), linear())

    given = [{"lr": 0.1}, {"lr": 0.2}, {"seed": 1}, {"seed": 1, "lr": 0.1}, {"seed": 2}]
    found = families(noisy, given)
    assert [(heads.way, heads.numbers) for heads in found] == [("flat", [0, 1]), ("flat", [2, 3]), ("looped", [4])]
    (quiet,) = families(linear, given)
    assert quiet.numbers == [0, 1, 2, 3, 4]


def test_nothing_of_the_trial_stays():
    head = nn.Sequential(nn.Dropout(0.5), linear())
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    (heads,) = families(lambda: copy.deepcopy(head))
    assert torch.equal(torch.rand(1), wanted)
    assert torch.equal(heads.state(1)["1.1.weight"], linear()[1].weight)
