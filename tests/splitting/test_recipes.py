import torch
from torch import nn

import frostline as fl
from frostline.splitting.state import steered_state
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


class Scaled(torch.autograd.Function):
    factor = 2.0

    @staticmethod
    def forward(ctx, batch):
        return batch * Scaled.factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_the_body_of_a_frozen_autograd_function_is_part_of_the_recipe(monkeypatch):
    model = Net(lambda m, batch: m.high(Scaled.apply(m.low(batch))))
    before = dict(fl.split(model, x(4)).recipe)
    monkeypatch.setattr(Scaled, "factor", 3.0)
    assert dict(fl.split(model, x(4)).recipe) != before


def test_what_a_later_batch_may_read_is_part_of_the_recipe():
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.usual, self.rare, self.scale = nn.Linear(D, D), nn.Linear(D, D), 1.0

        def forward(self, batch):
            return self.usual(batch) if batch.max() < 1e9 else self.rare(batch) * self.scale

    model = Net(
        lambda m, batch: m.high(m.chosen(m.low(batch)) * (1.0 if batch.max() < 1e9 else m.gain)), chosen=Chosen()
    )
    model.chosen.requires_grad_(False)
    model.gain = 1.0
    recipes = [dict(fl.split(model, x(4)).recipe)]
    model.chosen.scale = 2.0
    recipes.append(dict(fl.split(model, x(4)).recipe))
    model.gain = 2.0
    recipes.append(dict(fl.split(model, x(4)).recipe))
    with torch.no_grad():
        model.chosen.rare.weight += 1
    split = fl.split(model, x(4))
    assert len({recipe["calls"] for recipe in (*recipes, split.recipe)}) == 4
    split.check_unchanged()


def test_all_that_a_frozen_layer_keeps_is_told_and_an_iterator_is_not():
    layer = nn.BatchNorm1d(2)
    layer.scale, layer.names, layer.numbers = 1.0, ["a"], iter([1, 2])
    layer.register_buffer("none", None)

    def told():
        return steered_state({"norm": layer}, {}, [])

    found = [told()]
    assert told() == found[0]
    assert not any("numbers" in line or "none" in line for line in found[0])
    changes = (
        lambda: layer.weight.data.add_(1), lambda: layer.running_mean.add_(1), lambda: layer.names.append("b"),
        lambda: setattr(layer, "scale", 2.0),
    )  # fmt: skip
    for change in changes:
        change()
        found.append(told())
    assert len({tuple(lines) for lines in found}) == 5
