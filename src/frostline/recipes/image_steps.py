"""How `predict` makes a network's input of an image file, as steps that another program can repeat."""

from __future__ import annotations

from typing import Any

from frostline.data import CenterCrop

# What `frostline.data.images` does to every file, whatever the transform.
_DECODED: tuple[dict[str, Any], ...] = (
    {"step": "decode", "frame": 0},
    {"step": "turn upright", "by": "EXIF orientation"},
    {"step": "8 bits", "from": "16 bits: round(value / 65535 * 255)"},
    {"step": "compose", "transparent places on": [255, 255, 255]},
    {"step": "convert", "mode": "RGB"},
)
_TENSOR: tuple[dict[str, Any], ...] = (
    {"step": "divide", "by": 255, "dtype": "float32"},
    {"step": "order", "axes": "CHW", "colours": "RGB"},
)
# torchvision rounds the longer side down, and half pixels of the crop's corner to the even one; our `CenterCrop` does
# the reverse.
_TORCHVISION = {"longer side": "rounded down", "corner": "rounded, half to even"}
_OURS = {"longer side": "rounded, half to even", "corner": "rounded down"}
_FILTERS = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos", "box": "box",
            "hamming": "hamming"}  # as Pillow names them  # fmt: skip


def steps_of(transform: Any) -> list[dict[str, Any]]:
    """The steps from an image file to the input (3, H, W) of a network, in order.

    Resizing is Pillow's, whose filters cover all pixels where an image becomes smaller (antialias). A part of a
    transform that is not known here is given as its own text.

    Args:
        transform: Called on the upright image in RGB; None gives it as it is, in 0 to 1.
    """
    if transform is None:
        return [*_DECODED, *_TENSOR]
    if isinstance(transform, CenterCrop):
        return [
            *_DECODED, _resized(transform.size, "bicubic", _OURS), _cropped([transform.size] * 2, _OURS), *_TENSOR,
            _normalised(transform.mean, transform.std),
        ]  # fmt: skip
    parts = getattr(transform, "transforms", None)
    return [*_DECODED, *(step for part in (parts or [transform]) for step in _of_torchvision(part))]


def _of_torchvision(part: Any) -> list[dict[str, Any]]:
    """Of timm's evaluation transforms, which are torchvision's; known by their names, so that neither is imported."""
    kind = type(part).__name__
    size = getattr(part, "size", None)
    if kind == "Resize" and size is not None and getattr(part, "max_size", None) is None:
        return [_resized(size, _filter(part.interpolation), _TORCHVISION)]
    if kind == "CenterCrop" and size is not None:
        return [_cropped(list(size), _TORCHVISION)]
    if kind in ("ToTensor", "MaybeToTensor"):
        return [*_TENSOR]
    if kind == "Normalize":
        return [_normalised(_numbers(part.mean), _numbers(part.std))]
    return [{"step": "other", "described": repr(part)}]


def _resized(size: Any, name: str, rounding: dict[str, str]) -> dict[str, Any]:
    """A number is that of the shorter side; two are height and width."""
    given = [int(side) for side in size] if isinstance(size, (tuple, list)) else [int(size)]
    how = {"filter": name, "antialias": True}
    if len(given) == 1:
        return {"step": "resize", "shorter side": given[0], "longer side": rounding["longer side"], **how}
    return {"step": "resize", "height, width": given, **how}


def _cropped(size: list[int], rounding: dict[str, str]) -> dict[str, Any]:
    return {"step": "crop", "height, width": size, "from": "centre", "corner": rounding["corner"]}


def _normalised(mean: Any, std: Any) -> dict[str, Any]:
    return {"step": "normalise", "mean": [*mean], "std": [*std]}


def _filter(interpolation: Any) -> str:
    name = str(getattr(interpolation, "value", interpolation))
    return _FILTERS.get(name, name)


def _numbers(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
