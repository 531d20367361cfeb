"""Preparation of images for a network: size and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from frostline.core.arguments import as_count, as_number
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
        object.__setattr__(self, "size", as_count("CenterCrop", "size", self.size))
        object.__setattr__(self, "mean", _colours("mean", self.mean))
        object.__setattr__(self, "std", _colours("std", self.std))
        if min(self.std) <= 0:
            raise DataError(
                what="A standard deviation is not above 0.", where="CenterCrop(std=...)", received=str(self.std),
                do="pass the standard deviation of each colour on the scale 0 to 1, such as (0.229, 0.224, 0.225).",
            )  # fmt: skip

    def __call__(self, image: Any) -> Tensor:
        """A PIL image in RGB as float32 (3, size, size)."""
        from PIL import Image

        width, height = image.size
        scale = self.size / min(width, height)
        width, height = (max(self.size, round(side * scale)) for side in (width, height))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        image = image.crop((left, top, left + self.size, top + self.size))
        pixels_HWC = torch.from_numpy(np.array(image)).float() / 255
        return ((pixels_HWC - torch.tensor(self.mean)) / torch.tensor(self.std)).permute(2, 0, 1).contiguous()


def _colours(name: str, given: Any) -> tuple[float, ...]:
    items = cast("Sequence[Any]", given) if isinstance(given, (tuple, list)) else ()
    if len(items) != 3:
        raise DataError(
            what=f"The {name} needs one number for each colour.", where=f"CenterCrop({name}=...)", received=repr(given),
            do="pass three numbers (red, green, blue) on the scale 0 to 1.",
        )  # fmt: skip
    return tuple(as_number("CenterCrop", name, item) for item in items)
