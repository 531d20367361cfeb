import torch
from torch import nn

import frostline as fl
from helpers_splitting import FORWARDS, D, Net, x


def test_recipes_follow_the_frozen_weights_and_not_the_head():
    model = Net(FORWARDS["plain"])
    first = dict(fl.split(model, x(4)).recipe)
    with torch.no_grad():
        model.high.weight += 1
    assert dict(fl.split(model, x(3)).recipe) == first
    with torch.no_grad():
        model.low.bias[0] += 1e-6
    assert dict(fl.split(model, x(4)).recipe) != first


def test_weights_that_only_training_reads_are_part_of_the_recipe():
    def forward(m, x):
        return m.high(m.low(x)) + (m.high(m.aside(x)) if m.training else 0)

    model = Net(forward, aside=nn.Linear(D, D))
    fl.freeze(model, modules=[model.low, model.aside])
    before = fl.split(model, x(4)).recipe
    assert fl.split(model, x(4)).recipe == before
    with torch.no_grad():
        model.aside.weight[0, 0] += 1
    assert fl.split(model, x(4)).recipe["calls"] != before["calls"]
