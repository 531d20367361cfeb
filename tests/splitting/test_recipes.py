import torch

import frostline as fl
from helpers_splitting import FORWARDS, Net, x


def test_recipes_follow_the_frozen_weights_and_not_the_head():
    model = Net(FORWARDS["plain"])
    first = dict(fl.split(model, x(4)).recipe)
    with torch.no_grad():
        model.high.weight += 1
    assert dict(fl.split(model, x(3)).recipe) == first
    with torch.no_grad():
        model.low.bias[0] += 1e-6
    assert dict(fl.split(model, x(4)).recipe) != first
