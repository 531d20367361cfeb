import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import frostline as fl
from frostline.data import Arrays
from frostline.recipes.models import augmented_images, build_model, load_data
from helpers_vision import import_torchvision


def test_a_function_of_a_module_builds_the_model():
    assert type(build_model("torch.nn:Flatten")) is nn.Flatten


@pytest.mark.parametrize(
    ("spec", "received"),
    [
        ("resnet18", "no colon in it"),
        ("torch.nn:", "nothing behind the colon"),
        ("torch.nn:Flaten", "torch.nn has no function 'Flaten'"),
        ("torch.nn:Linear", "TypeError: "),
        ("builtins:dict", "a value of type dict"),
        ("no_such_package_anywhere:f", "ModuleNotFoundError: "),
    ],
)
def test_what_builds_no_model_is_refused(spec, received):
    with pytest.raises(fl.DataError, match="Cannot build the model") as error:
        build_model(spec)
    assert error.value.received.startswith(received)


def test_the_current_folder_is_searched_and_left_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_of_today.py").write_text("from torch.nn import Identity as net\nmade = net()\n")
    before = list(sys.path)
    assert isinstance(build_model("mine_of_today:net"), nn.Identity)
    assert isinstance(build_model("mine_of_today:made"), nn.Identity)
    assert sys.path == before


def test_arrays_are_told_by_their_suffix(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2), np.float32), y=np.array([0, 1, 0, 1]))
    assert isinstance(load_data(str(tmp_path / "a.npz"), nn.Identity()), Arrays)
    with pytest.raises(fl.DataError, match="no such folder"):
        load_data(str(tmp_path / "photos"), nn.Identity())


def test_a_model_of_timm_decodes_images_as_it_was_trained(tmp_path):
    import_torchvision()
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((40, 48, 3), 255, np.uint8)).save(tmp_path / name / "1.png")
    model = build_model("timm:test_resnet.r160_in1k")
    assert type(model).__name__ == "ResNet"
    image, _ = load_data(str(tmp_path), model)[0]
    config = model.default_cfg
    assert tuple(image.shape) == config["input_size"]
    white = [(1 - mean) / deviation for mean, deviation in zip(config["mean"], config["std"], strict=True)]
    assert image[:, 80, 80].tolist() == pytest.approx(white)
    plain, _ = load_data(str(tmp_path), nn.Flatten())[0]
    assert tuple(plain.shape) == (3, 40, 48)
    assert float(plain.max()) == 1.0


def test_images_of_different_sizes_ask_for_a_size(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for at in range(3):
            Image.new("RGB", (20 + at, 30)).save(tmp_path / name / f"{at}.png")
    with pytest.raises(
        fl.DataError, match="The images have different sizes, and the model has no configuration"
    ) as error:
        load_data(str(tmp_path), nn.Identity())
    assert "--size 224" in error.value.do
    assert load_data(str(tmp_path), nn.Identity(), fl.data.CenterCrop(8))[0][0].shape == (3, 8, 8)


def pictures(folder, size=(20, 30)):
    for name in "ab":
        (folder / name).mkdir()
        for at in range(3):
            Image.new("RGB", size, (40 * at, 9, 200)).save(folder / name / f"{at}.png")
    return folder


def test_the_augmentation_has_the_size_and_colours_of_the_preparation(tmp_path):
    plain = load_data(str(pictures(tmp_path)), nn.Identity(), fl.data.CenterCrop(8, mean=(0.1, 0.2, 0.3)))
    found = augmented_images(plain, nn.Identity(), "crop, flip").transform
    assert (found.size, found.mean, found.scale, found.flip, found.colour) == (8, (0.1, 0.2, 0.3), (0.35, 1.0), 0.5, 0)
    assert augmented_images(plain, nn.Identity(), "colour").transform.scale == (1.0, 1.0)
    import_torchvision()
    model = build_model("timm:test_resnet.r160_in1k")
    of_model = augmented_images(load_data(str(tmp_path), model), model, "flip").transform
    assert (of_model.size, of_model.mean) == (160, tuple(model.default_cfg["mean"]))


def test_an_augmentation_that_cannot_be_made_is_refused(tmp_path):
    plain = load_data(str(pictures(tmp_path)), nn.Identity(), fl.data.CenterCrop(8))
    with pytest.raises(fl.DataError, match="There is no such augmentation") as error:
        augmented_images(plain, nn.Identity(), "crop,flop")
    assert "flip" in error.value.do
    with pytest.raises(fl.DataError, match="Arrays are used as they are: there are no views of them"):
        augmented_images(Arrays(torch.zeros(4, 3), torch.arange(4) % 2), nn.Identity(), "crop")
    with pytest.raises(fl.DataError, match="The size of the images for this model is not known") as error:
        augmented_images(load_data(str(tmp_path), nn.Identity()), nn.Identity(), "crop")
    assert "--size 224" in error.value.do
