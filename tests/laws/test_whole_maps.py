"""Whole maps of Keras, whose channels are last, into modules whose channels are on axis 1."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.recipes.port import port

FOLDER = Path(__file__).parents[1] / "porting" / "files" / "keras_maps"


class WholeMaps(nn.Module):
    """A slope for each element of a map, and a norm over it."""

    def __init__(self):
        super().__init__()
        self.conv, self.slope = nn.Conv2d(2, 3, 3, padding=1), nn.Parameter(torch.ones(3, 5, 4))
        self.norm, self.head = nn.LayerNorm((3, 5, 4), eps=1e-3), nn.Linear(60, 2)

    def forward(self, x):
        x = self.conv(x)
        return self.head(self.norm(x.relu() - self.slope * (-x).relu()).flatten(1))


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(60, 2)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


def golden(name):
    arrays = np.load(FOLDER / f"{name}.npz")
    return torch.from_numpy(arrays["inputs"]).movedim(-1, 1), torch.from_numpy(arrays["outputs"])


def is_exact(module, inputs, outputs):
    with torch.no_grad():
        return torch.allclose(module(inputs), outputs, rtol=0, atol=1e-5 * float(outputs.abs().max()))


@pytest.mark.parametrize(("ending", "has_golden"), [(".keras", False), (".keras", True), (".weights.h5", True)])
def test_slopes_and_a_norm_over_whole_maps(ending, has_golden):
    module, both = WholeMaps().eval(), golden("whole_maps")
    certificate = port(FOLDER / f"whole_maps{ending}", module, golden=both if has_golden else None)
    assert is_exact(module, *both)
    assert {one.layout for one in certificate.mapping if one.unit == "norm"} == {
        "elements from (5, 4, 3) to (3, 5, 4), axes (1, 2, 0)"
    }


@pytest.mark.parametrize("has_golden", [False, True])
def test_maps_that_keras_turns_before_it_flattens_them(has_golden):
    module, both = Flat().eval(), golden("turned")
    port(FOLDER / "turned.keras", module, golden=both if has_golden else None)
    assert is_exact(module, *both)


def test_turns_that_the_file_does_not_state_are_refused_by_outputs():
    with pytest.raises(PortError, match="does not compute what the source network does"):
        port(FOLDER / "turned.weights.h5", Flat().eval(), golden=golden("turned"))
