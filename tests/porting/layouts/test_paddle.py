from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import frostline as fl
from frostline.porting.layouts.paddle import assumed_of
from frostline.porting.units.forms.paddle import renamed
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, port_into, source_of

FILES = Path(__file__).parents[1] / "files" / "paddle"


class Flat(nn.Module):
    def __init__(self, of=lambda layer: layer):
        super().__init__()
        self.head, self.wide, self.norm = nn.Linear(6, 2), of(nn.Linear(12, 6)), nn.LayerNorm((4, 3))
        self.conv, self.pairs = of(nn.Conv1d(4, 4, 3, padding=1)), nn.Bilinear(4, 4, 12)

    def forward(self, x):
        maps = self.norm(self.conv(self.pairs(x, x + 1).reshape(-1, 4, 3)))
        return self.head(self.wide(maps.flatten(1)).relu())


def test_linear_layers_are_transposed_and_embeddings_are_not():
    assert torch.equal(
        port_into(nn.Linear(3, 3, bias=False), {"weight": numbers(3, 3)}, "paddle").weight, numbers(3, 3).T
    )
    assert torch.equal(port_into(nn.Embedding(3, 3), {"weight": numbers(3, 3)}, "paddle").weight, numbers(3, 3))


def test_statistics_have_names_of_their_own():
    leaves = {"weight": numbers(2), "bias": numbers(2), "_mean": numbers(2, seed=1), "_variance": numbers(2, seed=2)}
    own = port_into(nn.BatchNorm2d(2), leaves, "paddle")
    assert torch.equal(own.running_var, numbers(2, seed=2))
    made = port_into(nn.Conv2d(2, 2, 1), {"weight": numbers(2, 2, 1, 1), "bias": numbers(2)}, "paddle")
    assert torch.equal(made.weight, numbers(2, 2, 1, 1))


def test_projections_of_an_attention_are_linear_layers_and_transposed_each():
    parts = ("query", "key", "value", "output")
    leaves = {f"{part}/weight": numbers(2, 2, seed=at) for at, part in enumerate(parts)}
    leaves |= {f"{part}/bias": numbers(2, seed=at) for at, part in enumerate(parts)}
    made = port_into(nn.MultiheadAttention(2, 1), leaves, "paddle")
    assert torch.equal(made.in_proj_weight[2:4], leaves["key/weight"].T)
    assert torch.equal(made.out_proj.weight, leaves["output/weight"].T)
    assert torch.equal(made.in_proj_bias[4:], leaves["value/bias"])


@pytest.mark.parametrize("of", [lambda layer: layer, parametrizations.weight_norm])
def test_what_is_stored_flat_or_under_a_norm_computes_the_same(of):
    stored = np.load(FILES / "flat.npz")
    certificate = fl.port(FILES / "flat.pdparams", model := Flat(of).eval())
    assert [one.layer for one in certificate.checks if one.setting == "axis of the weight norm"] == ["conv"]
    with torch.no_grad():
        made = model(torch.as_tensor(stored["x"]))
    assert torch.allclose(made, torch.as_tensor(stored["y"]), rtol=1e-4, atol=1e-5)


def test_a_tensor_of_as_many_numbers_and_another_form_is_not_taken():
    assert port_into(nn.LayerNorm((4, 3)), {"weight": numbers(3, 4), "bias": numbers(3, 4)}, "paddle") is None
    made = port_into(nn.LayerNorm((4, 3)), {"weight": numbers(12), "bias": numbers(12)}, "paddle")
    assert torch.equal(made.weight.flatten(), numbers(12))


@pytest.mark.parametrize(("shape", "is_assumed"), [((4, 4, 3), True), ((4, 3, 3), False), ((3, 4), False)])
def test_the_axis_of_a_weight_norm_is_known_where_one_has_its_size(shape, is_assumed):
    (unit,) = source_units(source_of("paddle", {"c": {"weight_g": numbers(4), "weight_v": numbers(*shape)}}))
    assert bool(assumed_of(renamed(unit))) == is_assumed
