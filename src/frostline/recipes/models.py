"""Builds the model that `--model` names, and the data that goes with it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from torch import nn

from frostline.core.arguments import as_numbers, as_path
from frostline.core.errors import DataError, nearest
from frostline.data import Arrays, CenterCrop, ImageFolder, RandomCrop, load_arrays

_AUGMENTED = ("crop", "flip", "colour")
_LOOKED_AT = 8  # images whose sizes are compared before anything is computed


def build_model(spec: str) -> nn.Module:
    """A model from `timm:NAME`, `hf:DIR` or `package.module:function` (the current folder is searched too).

    Raises:
        DataError: If there is no such package, module, function or model, or it gives no `nn.Module`.
    """
    place, _, name = spec.partition(":")
    if not name:
        found = "nothing behind the colon" if ":" in spec else "no colon in it"
        raise _wrong(spec, found, "write timm:NAME, hf:FOLDER or package.module:function.")
    if place == "timm":
        return _timm_model(name)
    if place == "hf":
        return _transformers_model(name)
    module = _imported(place, spec)
    function = getattr(module, name, None)
    if isinstance(function, nn.Module):
        return function
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise _wrong(spec, f"{place} has no function {name!r}", f"use one of its functions: {nearest(name, known)}.")
    try:
        model = function()
    except Exception as error:
        raise _wrong(
            spec, f"{type(error).__name__}: {error}", "correct the function; it is called without arguments."
        ) from error
    if not isinstance(model, nn.Module):
        raise _wrong(spec, f"a value of type {type(model).__name__}", "return a torch.nn.Module from the function.")
    return model


def load_data(path: str, model: nn.Module, transform: CenterCrop | None = None) -> ImageFolder | Arrays:
    """An image folder or arrays from a file.

    Args:
        path: The folder or the file.
        model: Images are decoded by its own data configuration, if it has one.
        transform: What the options ask for instead.

    Raises:
        DataError: If it cannot be read, there are options for images and the file holds arrays, or images have
            different sizes and neither the model nor an option sets how to resize them.
    """
    place = as_path("frostline", "DATA", path)
    if place.suffix in (".npz", ".safetensors"):
        if transform is not None:
            raise DataError(
                what="Arrays are used as they are: they are not resized.", where="--size, --mean, --std", received=path,
                do="leave these options out, or pass a folder of images.",
            )  # fmt: skip
        return load_arrays(place)
    images = ImageFolder(place, (transform or transform_of(model)) if place.is_dir() else None)
    if images.transform is None:
        shapes = {tuple(images[at][0].shape) for at in range(0, len(images), max(1, len(images) // _LOOKED_AT))}
        if len(shapes) > 1:
            raise DataError(
                what="The images have different sizes, and the model has no configuration of their preparation.",
                where=str(place), received=" and ".join(map(str, sorted(shapes)[:3])),
                do="add --size, such as --size 224; colours are then normalised by --mean and --std, or as ImageNet's.",
            )  # fmt: skip
    return images


def as_transform(size: int | None, mean: str | None, std: str | None) -> CenterCrop | None:
    """The preparation of images that the options ask for; None if they ask for nothing.

    Raises:
        DataError: If a mean or a deviation is given without a size, or is not three numbers.
    """
    if size is None:
        if mean is not None or std is not None:
            raise DataError(
                what="Images are normalised together with resizing.", where="--mean and --std", received="no --size",
                do="add --size, such as --size 224.",
            )  # fmt: skip
        return None
    colours = {"mean": mean, "std": std}
    return CenterCrop(size, **{name: as_numbers(f"--{name}", given) for name, given in colours.items() if given})


def augmented_images(images: ImageFolder | Arrays, model: nn.Module, text: str) -> ImageFolder:
    """The same images under a random crop, in the size and colours of their preparation.

    Args:
        images: As `load_data` gives them.
        model: Of which size and colours are taken where no option sets them.
        text: Of `--augment`: crop, flip and colour, with commas.

    Raises:
        DataError: If these are arrays, a name is unknown, or the size is not known.
    """
    names = [name.strip() for name in text.split(",")]
    if odd := [name for name in names if name not in _AUGMENTED]:
        raise DataError(
            what="There is no such augmentation.", where="--augment", received=repr(odd[0]),
            do=f"use {nearest(odd[0], [*_AUGMENTED])}; several with commas: --augment crop,flip,colour.",
        )  # fmt: skip
    if not isinstance(images, ImageFolder):
        raise DataError(
            what="Arrays are used as they are: there are no views of them.", where="--views and --augment",
            received="a file of arrays", do="pass a folder of images; or use the library, with a dataset whose items "
            "are random: frostline.fit(model, train, views=4).",
        )  # fmt: skip
    given = images.transform
    if not isinstance(given, CenterCrop):
        config = _timm(type(model).__name__).data.resolve_model_data_config(model) if given is not None else None
        if config is None:
            raise DataError(
                what="The size of the images for this model is not known.", where="--views and --augment",
                received="a model without a configuration of its images, and no --size",
                do="add --size, such as --size 224.",
            )  # fmt: skip
        given = CenterCrop(config["input_size"][-1], config["mean"], config["std"])
    options: dict[str, Any] = {"flip": 0.5 * ("flip" in names), "colour": 0.4 * ("colour" in names)}
    if "crop" not in names:
        options["scale"] = (1.0, 1.0)
    return ImageFolder(images.root, RandomCrop(given.size, given.mean, given.std, **options))


def _timm_model(name: str) -> nn.Module:
    timm = _timm(f"timm:{name}")
    if not timm.is_model(name):
        raise _wrong(f"timm:{name}", f"timm has no model {name!r}", f"use {nearest(name, timm.list_models())}.")
    return timm.create_model(name, pretrained=False)


def _transformers_model(folder: str) -> nn.Module:
    """The architecture that a folder's `config.json` describes; no weights are loaded, no code of the folder runs."""
    try:
        import transformers
    except (ImportError, RuntimeError) as error:
        do = "pip install 'frostline[text]'."
        raise _wrong(f"hf:{folder}", f"transformers cannot be imported: {error}", do) from error
    if not (Path(folder) / "config.json").is_file():
        raise _wrong(f"hf:{folder}", "no config.json in that folder", "pass a folder with the model's config.json.")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        kind = getattr(transformers, (config.architectures or [""])[0], None)
        return kind(config) if kind is not None else transformers.AutoModel.from_config(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        do = "check config.json: model_type and architectures name a class of transformers."
        raise _wrong(f"hf:{folder}", f"{type(error).__name__}: {str(error).splitlines()[0]}", do) from error


def transform_of(model: nn.Module) -> Any:
    """How images are prepared for a model of timm; None for other models."""
    if not hasattr(model, "default_cfg"):
        return None
    timm = _timm(type(model).__name__)
    config = timm.data.resolve_model_data_config(model)
    return timm.data.create_transform(**config, is_training=False)


def _timm(spec: str) -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        do = "pip install 'frostline[vision]'." if isinstance(error, ModuleNotFoundError) else (
            "install torch and torchvision of one release and one build (both +cpu, or both of one CUDA).")  # fmt: skip
        raise _wrong(spec, f"timm cannot be imported: {error}", do) from error
    return timm


def _imported(place: str, spec: str) -> Any:
    folder = str(Path.cwd())
    is_added = folder not in sys.path
    if is_added:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise _wrong(
            spec, f"{type(error).__name__}: {error}", "check the module's name, and that it imports."
        ) from error
    finally:
        if is_added:
            sys.path.remove(folder)


def _wrong(spec: str, received: str, do: str) -> DataError:
    return DataError(what=f"Cannot build the model {spec!r}.", where="the name of a model", received=received, do=do)
