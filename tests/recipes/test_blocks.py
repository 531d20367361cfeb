from torch import nn

import frostline as fl
from frostline.recipes.blocks import block_names, layers_to_freeze, layers_to_thaw


class Transformer(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.embed = nn.Linear(4, 32)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32)) for _ in range(depth))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 2)


def test_blocks_are_children_and_large_lists_are_taken_apart():
    assert block_names(Transformer(2)) == [
        "embed", "encoder.layer.0", "encoder.layer.1", "head",
    ]  # fmt: skip
    mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert block_names(mlp) == ["0", "2", "4"]
    assert block_names(nn.Linear(2, 2)) == []


def test_layers_are_thawed_from_the_top_and_the_last_is_the_whole_model():
    model = Transformer()
    fl.freeze(model, through="norm")
    found = layers_to_thaw(model)
    assert found == [*(f"encoder.layer.{at}" for at in (5, 4, 3, 2, 1, 0)), None]
    assert all(not p.requires_grad for p in model.encoder.parameters())
    fl.freeze(model, through="embed")
    fl.thaw(model, down_to="encoder.layer.0")
    assert layers_to_thaw(model) == [None]
    fl.thaw(model)
    assert layers_to_thaw(model) == []


def test_layers_are_frozen_from_the_bottom_and_the_last_block_trains():
    model = Transformer(3)
    assert layers_to_freeze(model) == ["embed", "encoder.layer.0", "encoder.layer.1", "encoder.layer.2"]
    fl.freeze(model, through="encoder.layer.0")
    assert layers_to_freeze(model) == ["encoder.layer.1", "encoder.layer.2"]


def test_a_deep_model_has_a_dozen_steps():
    model = Transformer(60)
    assert len(layers_to_freeze(model)) <= 12
