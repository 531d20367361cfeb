"""Preparation of images for a network: size and normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from frostline.core.arguments import as_count, as_items, as_number
from frostline.core.errors import DataError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class CenterCrop:
    """A square image for a network: the shorter side resized, the centre cut out, the colours normalised.

    Args:
        size: Pixels of each side of the square.
        mean: (red, green, blue), subtracted after scaling to 0 to 1. The default is that of ImageNet, with which most
            public networks were trained.
        std: (red, green, blue), the divisor.

    Raises:
        DataError: If the size is not a whole number of 1 or more, or a colour has no number.

    Example:
        >>> from PIL import Image
        >>> CenterCrop(size=32)(Image.new("RGB", (80, 60))).shape
        torch.Size([3, 32, 32])
    """

    size: int
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def __post_init__(self) -> None:
        _check_square(self)

    def __call__(self, image: Any) -> Tensor:
        """A PIL image in RGB as float32 (3, size, size)."""
        from PIL import Image

        width, height = image.size
        scale = self.size / min(width, height)
        width, height = (max(self.size, round(side * scale)) for side in (width, height))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        return _normalised(image, self)


@dataclass(frozen=True)
class RandomCrop:
    """A random part of an image as a square for a network, in random colours: an augmentation of training images.

    It draws from torch's global generator, so that `views=` of `fit` and `fill` keep several of them for each image.

    Args:
        size: Pixels of each side of the square.
        mean: As of `CenterCrop`.
        std: As of `CenterCrop`.
        scale: (least, most) share of the image's area. The whole range of ImageNet training, from 0.08 on, hides small
            things; (1, 1) takes the largest square, in the centre.
        ratio: (least, most) of width / height of the part, before it is made square.
        flip: Probability of a mirrored image; 0 where left and right mean something, as in digits and text.
        colour: Brightness, contrast and saturation are multiplied by up to 1 +- this.

    Raises:
        DataError: If a number is out of its range.

    References:
        Szegedy et al. 2015, Going Deeper with Convolutions, section 6: the crops.

    Example:
        >>> from PIL import Image
        >>> RandomCrop(size=32)(Image.new("RGB", (80, 60))).shape
        torch.Size([3, 32, 32])
    """

    size: int
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    scale: Sequence[float] = (0.35, 1.0)
    ratio: Sequence[float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    colour: float = 0.0

    def __post_init__(self) -> None:
        _check_square(self)
        for name, most in (("scale", 1.0), ("ratio", math.inf)):
            object.__setattr__(self, name, _limits(name, getattr(self, name), most))
        for name in ("flip", "colour"):
            share = as_number("RandomCrop", name, getattr(self, name))
            if not 0 <= share <= 1:
                raise DataError(
                    what=f"{name} is not a share.", where=f"RandomCrop({name}=...)", received=f"{share:g}",
                    do="pass a number from 0 to 1.",
                )  # fmt: skip
            object.__setattr__(self, name, share)

    def __call__(self, image: Any) -> Tensor:
        """A PIL image in RGB as float32 (3, size, size)."""
        from PIL import Image, ImageEnhance

        image = image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=self._box(*image.size))
        if torch.rand(()).item() < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.colour:
            for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
                image = enhance(image).enhance(_between(1 - self.colour, 1 + self.colour))
        return _normalised(image, self)

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the part, smaller where the image is too narrow for it."""
        if self.scale == (1.0, 1.0):
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            return left, top, left + side, top + side
        area, ratio = width * height * _between(*self.scale), math.exp(_between(*map(math.log, self.ratio)))
        own_width, own_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        shrink = min(1.0, width / own_width, height / own_height)
        own_width, own_height = own_width * shrink, own_height * shrink
        left, top = _between(0, width - own_width), _between(0, height - own_height)
        return left, top, min(width, left + own_width), min(height, top + own_height)


def _between(least: float, most: float) -> float:
    return least + (most - least) * torch.rand(()).item()


def _normalised(image: Any, square: CenterCrop | RandomCrop) -> Tensor:
    """Float32 (3, H, W) of a PIL image in RGB."""
    pixels_HWC = torch.from_numpy(np.array(image)).float() / 255
    return ((pixels_HWC - torch.tensor(square.mean)) / torch.tensor(square.std)).permute(2, 0, 1).contiguous()


def _check_square(square: CenterCrop | RandomCrop) -> None:
    call = type(square).__name__
    object.__setattr__(square, "size", as_count(call, "size", square.size))
    object.__setattr__(square, "mean", _colours(call, "mean", square.mean))
    object.__setattr__(square, "std", _colours(call, "std", square.std))
    if min(square.std) <= 0:
        raise DataError(
            what="A standard deviation is not above 0.", where=f"{call}(std=...)", received=str(square.std),
            do="pass the standard deviation of each colour on the scale 0 to 1, such as (0.229, 0.224, 0.225).",
        )  # fmt: skip


def _limits(name: str, given: Any, most: float) -> tuple[float, float]:
    items = [as_number("RandomCrop", name, item) for item in as_items("RandomCrop", name, given)]
    if len(items) != 2 or not 0 < items[0] <= items[1] <= most:
        raise DataError(
            what=f"The {name} of random crops is not a range.", where=f"RandomCrop({name}=...)", received=repr(given),
            do=f"pass (least, most), numbers above 0{' and up to 1' if most == 1 else ''}, such as "
            f"{'(0.35, 1.0)' if most == 1 else '(0.75, 1.33)'}.",
        )  # fmt: skip
    return items[0], items[1]


def _colours(call: str, name: str, given: Any) -> tuple[float, ...]:
    items = cast("Sequence[Any]", given) if isinstance(given, (tuple, list)) else ()
    if len(items) != 3:
        raise DataError(
            what=f"The {name} needs one number for each colour.", where=f"{call}({name}=...)", received=repr(given),
            do="pass three numbers (red, green, blue) on the scale 0 to 1.",
        )  # fmt: skip
    return tuple(as_number(call, name, item) for item in items)
