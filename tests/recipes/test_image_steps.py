import numpy as np
import pytest
import torch
from PIL import Image

from frostline.data import CenterCrop
from frostline.data.images import decoded
from frostline.recipes.image_steps import steps_of
from helpers_vision import import_torchvision


def repeated(path, steps) -> np.ndarray:
    """The steps by Pillow and numpy alone, as another program would write them."""
    with Image.open(path) as file:
        return _repeated(file, steps)


def _repeated(image, steps) -> np.ndarray:
    array = None
    for step in steps:
        kind = step["step"]
        if kind == "decode":
            image.seek(step["frame"])
        elif kind == "turn upright":
            turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 8: Image.Transpose.ROTATE_90}
            turn = turns.get(image.getexif().get(0x0112))
            image = image.transpose(turn) if turn is not None else image
        elif kind == "8 bits":
            if image.mode.startswith("I"):
                image = Image.fromarray(np.round(np.asarray(image) / 65535 * 255).astype(np.uint8))
        elif kind == "compose":
            if image.mode in ("RGBA", "LA", "P"):
                layer = image.convert("RGBA")
                image = Image.new("RGBA", layer.size, (*step["transparent places on"], 255))
                image.alpha_composite(layer)
        elif kind == "convert":
            image = image.convert(step["mode"])
        elif kind == "resize":
            width, height = image.size
            if "shorter side" in step:
                short = step["shorter side"]
                down = {"rounded down": int, "rounded, half to even": round}[step["longer side"]]
                long = down(short * max(width, height) / min(width, height))
                size = (short, long) if width <= height else (long, short)
            else:
                size = step["height, width"][::-1]
            image = image.resize(size, Image.Resampling[step["filter"].upper()])
        elif kind == "crop":
            (height, width), (w, h) = step["height, width"], image.size
            corner = {"rounded down": lambda d: d // 2, "rounded, half to even": lambda d: round(d / 2)}[step["corner"]]
            left, top = corner(w - width), corner(h - height)
            image = image.crop((left, top, left + width, top + height))
        elif kind == "divide":
            array = np.asarray(image).astype(step["dtype"]) / np.float32(step["by"])
        elif kind == "order":
            array = array.transpose(["HWC".index(axis) for axis in step["axes"]])
        elif kind == "normalise":
            mean, std = (np.float32(step[name])[:, None, None] for name in ("mean", "std"))
            array = (array - mean) / std
        else:
            raise AssertionError(step)
    return array


@pytest.fixture
def files(tmp_path):
    """Photos of odd sizes: colours, an EXIF turn, transparent places, grey, 16 bits, a palette."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (53, 71, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "colours.png": (Image.fromarray(pixels[..., :3]), {}),
        "turned.jpg": (Image.fromarray(pixels[..., :3]), {"exif": exif}),
        "clear.png": (Image.fromarray(pixels), {}),
        "grey.png": (Image.fromarray(pixels[..., 0]), {}),
        "deep.png": (Image.fromarray(draw.integers(0, 2**16, (40, 67), dtype=np.uint16)), {}),
        "palette.gif": (Image.fromarray(pixels[..., :3]).quantize(16), {}),
    }
    for name, (image, options) in made.items():
        image.save(tmp_path / name, **options)
    return [tmp_path / name for name in made]


def torchvision_transform(interpolation: str, size):
    transforms = import_torchvision().transforms
    mode = transforms.InterpolationMode(interpolation)
    return transforms.Compose([
        transforms.Resize(size, interpolation=mode), transforms.CenterCrop((24, 29)), transforms.ToTensor(),
        transforms.Normalize(mean=torch.tensor([0.485, 0.456, 0.406]), std=torch.tensor([0.229, 0.224, 0.225])),
    ])  # fmt: skip


@pytest.mark.parametrize("made", [
    lambda: None, lambda: CenterCrop(33), lambda: CenterCrop(20, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)),
    lambda: torchvision_transform("bicubic", 33), lambda: torchvision_transform("bilinear", 35),
    lambda: torchvision_transform("bilinear", (31, 40)),
])  # fmt: skip
def test_another_program_makes_the_same_input(files, made):
    transform = made()
    for file in files:
        wanted = decoded(file, transform).numpy()
        assert np.abs(repeated(file, steps_of(transform)) - wanted).max() < 1e-6, file.name


def test_the_transform_of_timm_is_known_whole():
    import_torchvision()
    timm = pytest.importorskip("timm")
    transform = timm.data.create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, is_training=False)
    steps = {step["step"]: step for step in steps_of(transform)}
    assert "other" not in steps
    assert (steps["resize"]["shorter side"], steps["resize"]["filter"]) == (256, "bicubic")
    assert steps["crop"]["height, width"] == [224, 224]
    assert steps["normalise"]["mean"] == [0.485, 0.456, 0.406]


def test_a_part_that_is_not_known_is_given_as_its_text():
    class Odd:
        def __repr__(self):
            return "Odd(3)"

    assert steps_of(Odd())[-1] == {"step": "other", "described": "Odd(3)"}
