import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from frostline.core.errors import DataError
from frostline.data import CenterCrop, ImageFolder
from helpers_vision import import_torchvision


def picture(width=60, height=40):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (33, 33), (1, 500), (501, 3)])
def test_every_image_becomes_a_square_of_that_size(width, height):
    assert CenterCrop(32)(picture(width, height)).shape == (3, 32, 32)


def test_the_values_are_those_of_torchvision():
    import_torchvision()
    v2 = importlib.import_module("torchvision.transforms.v2")

    own = CenterCrop(24, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))(picture())
    theirs = v2.Compose([
        v2.Resize(24, v2.InterpolationMode.BICUBIC), v2.CenterCrop(24), v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
    ])(picture())  # fmt: skip
    assert torch.allclose(own, theirs, atol=1e-6)


def test_a_change_of_it_changes_the_fingerprint_of_a_dataset(tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        picture().save(tmp_path / name / "1.png")
    prints = [
        ImageFolder(tmp_path, transform).fingerprint
        for transform in (CenterCrop(24), CenterCrop(25), CenterCrop(24, mean=(0, 0, 0)), CenterCrop(24, std=(1, 1, 1)))
    ]
    assert len(set(prints)) == 4
    assert ImageFolder(tmp_path, CenterCrop(24))[0][0].shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"size": 0}, "size"),
        ({"size": 8, "mean": (0.5, 0.5)}, "The mean needs one number for each colour"),
        ({"size": 8, "std": (1, 1, 1, 1)}, "The std needs one number for each colour"),
        ({"size": 8, "std": (1, 0, 1)}, "A standard deviation is not above 0"),
        ({"size": 8, "mean": ("red", 0, 0)}, "mean"),
    ],
)
def test_sizes_and_colours_that_cannot_be(options, what):
    with pytest.raises(DataError, match=what):
        CenterCrop(**options)
