"""A folder of images, one subfolder per class."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.arguments import as_items, as_name, as_number, as_path, check_callable
from frostline.core.code_names import Cells, is_installed
from frostline.core.digests import code_digest
from frostline.core.errors import DataError

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+|<lambda>|<function")
_OF_MODULES = frozenset(vars(nn.Module()))


class ImageFolder:
    """Images as `(tensor, class index)`; the classes are the subfolders, in the order of their names.

    Files that are hidden, or do not end like an image, are passed over. Images are decoded with pillow, turned upright
    as their EXIF data says, and converted to RGB; of several frames the first is taken.

    Args:
        root: The folder.
        transform: Called on the PIL image; None gives float32 (3, H, W) in 0 to 1.
        fingerprint: A text that changes whenever the transform does; needed for transforms that cannot be described.
        background: A colour as pillow names it, behind transparent places.
        value_range: (black, white) of images with more than 8 bits for each colour. None takes 0 to 65535 for 16 bits,
            and refuses floats and 32 bits, whose range is not part of the file.

    Attributes:
        classes: Names of the classes.
        labels: Class index of each image.
        paths: File of each image.

    Raises:
        DataError: If there is no folder, fewer than two classes, an empty class, a transform without description, no
            such colour or an empty range.
    """

    def __init__(
        self,
        root: str | Path,
        transform: Callable[[Any], Any] | None = None,
        *,
        fingerprint: str | None = None,
        background: str = "white",
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.root, self.transform = as_path("ImageFolder", "root", root), transform
        if transform is not None:
            check_callable("ImageFolder", "transform", transform, takes="(image) -> tensor")
        if fingerprint is not None:
            fingerprint = as_name("ImageFolder", "fingerprint", fingerprint)
        self._background, self._range = _background(background), _value_range(value_range)
        self._named = fingerprint
        _ = self.fingerprint  # raises where there is none
        folders = _class_folders(self.root)
        self.classes = tuple(folder.name for folder in folders)
        self.paths: list[Path] = []
        self.labels: list[int] = []
        for label, folder in enumerate(folders):
            images = sorted(path for path in folder.rglob("*") if _is_image(path))
            if not images:
                raise _wrong("A class folder has no images.", str(folder), "no file that ends like an image",
                             "put images into it, or remove the folder.")  # fmt: skip
            self.paths += images
            self.labels += [label] * len(images)
        self._digests: dict[int, tuple[tuple[int, ...], bytes]] = {}

    @property
    def fingerprint(self) -> str:
        """Description of the transform as it is now, the background and the range."""
        described = self._named if self._named is not None else _describe(self.transform)
        options = f"{self._background} {self._range}"
        return described if options == "(255, 255, 255) None" else f"{described} on {options}"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.from_source(self.source(index), index)

    def source(self, index: int) -> Any:
        """The upright image in RGB, before the transform: it is decoded once for all views of a sample."""
        return decoded(self.paths[index], _as_it_is, self._background, self._range)

    def from_source(self, image: Any, index: int) -> tuple[Any, int]:
        """The item, from what `source` gave."""
        return _to_tensor(image) if self.transform is None else self.transform(image), self.labels[index]

    def sample_key(self, index: int) -> bytes:
        """Digest of the file's bytes; hashed again only if the file changed since."""
        path = self.paths[index]
        try:
            stat = path.stat()
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            known = self._digests.get(index)
            if known is None or known[0] != seen:
                known = (seen, hashlib.sha256(path.read_bytes()).digest())
                self._digests[index] = known
        except OSError as error:
            raise _wrong("An image cannot be read.", str(path), error.strerror or str(error),
                         "repair or remove the file.") from error  # fmt: skip
        return known[1][:16]

    def target(self, index: int) -> int:
        """The class index, without decoding the image."""
        return self.labels[index]


def decoded(
    path: Path, transform: Callable[[Any], Any] | None, background: tuple[int, ...] = (255, 255, 255),
    value_range: tuple[float, float] | None = None,
) -> Any:  # fmt: skip
    """What a transform makes of the upright image in RGB; without one float32 (3, H, W) in 0 to 1.

    Raises:
        DataError: If the file is no image, or its numbers have no known range.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            plain = _to_rgb(image, path, background, value_range)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise _wrong("An image cannot be read.", str(path), f"{type(error).__name__}: {error}",
                     "repair or remove the file.") from error  # fmt: skip
    return _to_tensor(plain) if transform is None else transform(plain)


def image_files(path: Path) -> list[Path]:
    """The image itself, or all images below a folder, in the order of their paths.

    Raises:
        DataError: If there is none.
    """
    found = sorted(file for file in path.rglob("*") if _is_image(file)) if path.is_dir() else [path]
    if not found or not path.exists():
        raise _wrong("There are no images at this path.", str(path),
                     "a folder without images" if path.exists() else "no such file or folder",
                     "pass an image, or a folder with images in it.")  # fmt: skip
    return found


def _class_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        found = "a file" if root.exists() else "no file or folder at this path"
        raise _wrong("There is no such folder.", str(root), found,
                     "pass a folder with one subfolder of images per class.")  # fmt: skip
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        names = ", ".join(folder.name for folder in folders) or "none"
        raise _wrong("The folder needs at least two classes.", str(root), f"class folders: {names}",
                     "make one subfolder of images for each class.")  # fmt: skip
    return folders


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _ENDINGS and not path.name.startswith(".") and path.is_file()


def _to_rgb(image: Any, path: Path, background: tuple[int, ...], value_range: tuple[float, float] | None) -> Any:
    """The upright image in RGB: more than 8 bits scaled to 8, transparent places on the background.

    Raises:
        DataError: If its numbers have no known range, or are not finite.
    """
    from PIL import Image, ImageOps

    kind = image.format  # which the next line forgets
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        clear = image.info.get("transparency")
        is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM"))
        low_high = value_range if value_range is not None else (0.0, 65535.0) if is_16_bit else None
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray(_scaled(values, low_high, f"mode {image.mode}", path))
        if isinstance(clear, int):  # the grey level of transparent places
            image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, background), layer)
    return image.convert("RGB")


# Numbers of more than 8 bits have no agreed white: depth maps, scans and X-rays use their own. A guess would change
# every feature, so the range comes from the format or the caller.
def _scaled(values: Any, low_high: tuple[float, float] | None, mode: str, path: Path) -> Any:
    """Numbers of any range as 8 bits."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(values).all():
        raise _wrong("An image holds numbers that are not finite.", str(path), mode, "repair or remove the file.")
    if low_high is None:
        raise _wrong("The range of an image's numbers is not known.", str(path), f"{mode}, {low:g} to {high:g}",
                     "pass the values of black and white in all images: "
                     f"ImageFolder(root, value_range=({min(low, 0.0):g}, {high if high > min(low, 0.0) else 1.0:g})); "
                     "or save them with 8 bits.")  # fmt: skip
    black, white = low_high
    return np.round((values - black) / (white - black) * 255).clip(0, 255).astype(np.uint8)


def _background(name: Any) -> tuple[int, ...]:
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(as_name("ImageFolder", "background", name))
    except ValueError as error:
        raise _wrong("There is no such colour.", "ImageFolder(background)", repr(name),
                     "use a name or a number of CSS, such as 'black' or '#808080'.") from error  # fmt: skip


def _value_range(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    items = as_items("ImageFolder", "value_range", given)
    black, white, *more = [*items, None, None][: max(2, len(items))]
    black = as_number("ImageFolder", "value_range", black)
    white = as_number("ImageFolder", "value_range", white)
    if more or black == white:
        raise _wrong("A range of numbers needs two ends.", "ImageFolder(value_range)", repr(given),
                     "pass (black, white), such as (0, 1) or (0, 4095).")  # fmt: skip
    return black, white


def _as_it_is(image: Any) -> Any:
    return image


def _to_tensor(image: Any) -> Tensor:
    pixels_HWC = torch.from_numpy(np.array(image))
    return pixels_HWC.permute(2, 0, 1).float() / 255


def _describe(transform: Callable[[Any], Any] | None) -> str:
    hidden = " ".join(_hidden(transform, set()))
    text = f"{transform!r} {hidden}" if hidden else repr(transform)
    if transform is not None and _ADDRESS.search(text):
        raise _wrong("The transform cannot be described: a change would pass unnoticed.", "ImageFolder(transform)",
                     text, 'pass ImageFolder(root, transform, fingerprint="resize 224, v1") and change the text with '
                     "the transform; or use torchvision transforms.")  # fmt: skip
    return f"images/3 {text}"


# The text of a torchvision transform leaves out what its `Lambda` calls, and numbers such as `fill`.
def _hidden(value: Any, seen: set[int]) -> Iterator[str]:
    """What decides what a transform does, and is not in its text."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType) and is_installed(value):
        yield f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, FunctionType):
        scope = [value.__globals__[name] for name in value.__code__.co_names if name in value.__globals__]
        given = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        yield code_digest(value.__code__)
        for part in (*Cells(value).values(), *given, *scope):
            yield from _hidden(part, seen) if isinstance(part, FunctionType) else [_named(part)]
    elif isinstance(value, functools.partial):
        for part in (value.func, value.args, value.keywords):
            yield from _hidden(part, seen)
    elif isinstance(value, (tuple, list)):
        for part in cast("Sequence[Any]", value):
            yield from _hidden(part, seen)
    elif type(value).__module__.startswith("torchvision.") and hasattr(value, "__dict__"):
        for name, part in vars(value).items():
            if isinstance(part, (int, float, str, tuple, list, dict)) and name not in _OF_MODULES:
                yield f"{name}={part!r}" if _is_plain(part) else name
            yield from _hidden(list(cast("dict[Any, Any]", part).values()) if type(part) is dict else part, seen)
    if isinstance(value, nn.Module):
        for part in value.children():
            yield from _hidden(part, seen)


def _named(value: Any) -> str:
    """Modules and what is installed by name: their texts hold places of the machine."""
    if isinstance(value, ModuleType):
        return value.__name__
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else repr(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, cast("dict[Any, Any]", value).values()))
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, cast("Sequence[Any]", value)))
    return value is None or isinstance(value, (int, float, str))


def _wrong(what: str, where: str, received: str, do: str) -> DataError:
    return DataError(what=what, where=where, received=received, do=do)
