"""Copies as settings want them, and a model that is put back where the best head cannot go in."""

import copy

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.recipes.sweep_heads import SweptHead
from frostline.selection import HeadCourse
from helpers_sweep import C, H, batch, cached, model, settings, ways


def test_heads_with_the_same_modules_are_together():
    split, data = cached(model())
    swept = SweptHead(split.head, ways())
    own = settings([{}, {"width": 4}, {"lr": 0.1}, {"width": 4, "seed": 3}, {"dropout": 0.5}, {"width": 5}])
    found = swept.families(own, next(iter(data.loader(16))))
    assert [(heads.way, heads.numbers) for heads in found] == [
        ("flat", [0, 2]), ("stacked", [1, 3]), ("looped", [4]), ("looped", [5])]  # fmt: skip
    one, other = (found[1].state(at)["1.0.weight"] for at in (0, 1))
    assert not torch.equal(one, other)


def test_a_setting_that_does_not_fit_is_named():
    split, data = cached(model(nn.Linear(H, C), nn.Softmax(1)))
    swept, first = SweptHead(split.head, ways()), next(iter(data.loader(16)))
    with pytest.raises(fl.DataError, match="no output layer that a hidden layer could stand before") as caught:
        swept.families(settings([{}, {"width": 4}]), first)
    assert caught.value.where == "sweep(settings[1]: width)"
    with pytest.raises(fl.DataError, match="This head has no place for dropout"):
        swept.families(settings([{"dropout": 0.4}]), first)


def test_a_model_is_put_back_if_the_best_head_cannot_go_in():
    own = nn.Sequential(nn.Dropout(0.1), nn.Linear(H, 8), nn.Linear(8, C))
    state = copy.deepcopy(own.state_dict())
    swept = SweptHead(own, ways())
    (one,) = settings([{"dropout": 0.9}])
    swept.families([one], batch())
    course = HeadCourse(one, "looped", state={"1.weight": torch.ones(8, H), "2.weight": torch.ones(3, 3)})
    with pytest.raises(RuntimeError):
        swept.put_in(course)
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.state_dict().items())
    assert own[0].p == 0.1
    (two,) = settings([{"width": 4}])
    course = HeadCourse(two, "looped", state={"2.0.weight": torch.ones(1)})
    layer = own[2]
    with pytest.raises(RuntimeError):
        swept.put_in(course)
    assert own[2] is layer


def test_own_forward_shares_the_frozen_weights():
    class Looping(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.out = nn.Linear(6, H), nn.Linear(H, C)
            self.body.requires_grad_(False)

        def forward(self, x):
            return torch.stack([self.out(row) for row in self.body(x)])

    own = Looping()
    split, data = cached(own)
    swept = SweptHead(split.head, ways())
    (heads,) = swept.families(settings({"lr": [0.1, 0.2]}), next(iter(data.loader(16))))
    assert heads.way == "looped"
    before = own.out.weight.clone()
    assert heads.step(*next(iter(data.loader(16)))).shape == (2,)
    assert torch.equal(own.out.weight, before)
