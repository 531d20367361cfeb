import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from frostline.core.errors import DataError
from frostline.data import CenterCrop, ImageFolder, RandomCrop
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


@pytest.mark.parametrize(("width", "height"), [(60, 40), (40, 60), (33, 33), (1, 500), (501, 3)])
def test_random_parts_are_squares_of_that_size(width, height):
    assert RandomCrop(32, colour=0.4)(picture(width, height)).shape == (3, 32, 32)


def test_a_random_part_follows_from_torchs_seed_alone():
    crop = RandomCrop(24, colour=0.2)
    torch.manual_seed(5)
    first, second = crop(picture()), crop(picture())
    torch.manual_seed(5)
    assert torch.equal(crop(picture()), first)
    assert not torch.equal(first, second)


def test_a_whole_image_without_a_flip_is_the_centre():
    plain, cut = CenterCrop(40)(picture()), RandomCrop(40, scale=(1, 1), flip=0)(picture())
    assert torch.allclose(plain, cut, atol=0.02)
    mirrored = RandomCrop(40, scale=(1, 1), flip=1)(picture())
    assert torch.equal(mirrored.flip(-1), cut)


def test_parts_lie_within_the_image_and_have_their_share():
    crop, shares = RandomCrop(8, scale=(0.3, 0.5)), []
    for _ in range(200):
        left, top, right, bottom = crop._box(60, 40)
        assert 0 <= left < right <= 60
        assert 0 <= top < bottom <= 40
        assert 3 / 4 - 1e-6 <= (right - left) / (bottom - top) <= 4 / 3 + 1e-6
        shares.append((right - left) * (bottom - top) / 2400)
    assert 0.29 < min(shares) < 0.33
    assert 0.47 < max(shares) < 0.51


ODD_CROPS = {
    "scale": ({"scale": (0.5, 1.5)}, "scale of random crops is not a range"),
    "order": ({"scale": (1.0, 0.5)}, "scale of random crops is not a range"),
    "ratio": ({"ratio": (0, 1)}, "ratio of random crops is not a range"),
    "three": ({"ratio": (1, 2, 3)}, "ratio of random crops is not a range"),
    "flip": ({"flip": 1.5}, "flip is not a share"),
    "colour": ({"colour": -0.1}, "colour is not a share"),
    "mean": ({"mean": (0.5,)}, "mean needs one number for each colour"),
    "std": ({"std": (0.5, 0, 1)}, "standard deviation is not above 0"),
    "size": ({"size": 0}, "size is not a whole number"),
}


@pytest.mark.parametrize("name", ODD_CROPS)
def test_numbers_of_a_random_crop_are_checked(name):
    options, text = ODD_CROPS[name]
    with pytest.raises(DataError, match=text) as error:
        RandomCrop(**{"size": 8, **options})
    assert "RandomCrop" in error.value.where
