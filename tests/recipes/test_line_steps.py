import copy

import torch
from torch import nn

import frostline as fl
from frostline.recipes.line_steps import layers_to_freeze, layers_to_thaw, usable_lines

X = torch.ones(2, 4)


class Transformer(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.embed = nn.Linear(4, 32)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.Linear(64, 32)) for _ in range(depth))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.encoder.layer:
            x = x + layer(x)
        return self.head(self.norm(x))


class HeadFirst(nn.Module):
    """Its output layer is registered before the layers that run below it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 2)
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())

    def forward(self, x):
        return self.head(self.body(x))


def test_lines_are_those_that_choose_depth_scores():
    model = Transformer(2)
    before = copy.deepcopy(model.state_dict())
    assert usable_lines(model.train(), X) == ["embed", "encoder.layer.0", "norm"]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_are_thawed_from_the_top_and_the_last_is_the_whole_model():
    model = Transformer()
    fl.freeze(model, through="norm")
    found = layers_to_thaw(model, X)
    assert found == [*(f"encoder.layer.{at}" for at in (5, 4, 3, 2, 1)), None]  # the embedding is small
    assert all(not p.requires_grad for p in model.encoder.parameters())
    fl.freeze(model, through="embed")
    fl.thaw(model, down_to="encoder.layer.0")
    assert layers_to_thaw(model, X) == [None]
    fl.thaw(model)
    assert layers_to_thaw(model, X) == []


def test_layers_are_frozen_from_the_bottom_and_the_output_layer_trains():
    model = Transformer(3)
    found = layers_to_freeze(model, X)
    assert found == ["embed", "encoder.layer.0", "encoder.layer.1", "norm"]
    fl.freeze(model, through="encoder.layer.0")
    assert layers_to_freeze(model, X) == ["encoder.layer.1", "norm"]


def test_an_output_layer_that_is_registered_first_is_never_frozen():
    assert layers_to_freeze(HeadFirst(), X) == []


def test_a_deep_model_has_a_few_steps():
    assert len(layers_to_freeze(Transformer(60), X)) <= 8
