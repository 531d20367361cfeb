"""Inputs of another dtype, size or order of axes than the model takes: what to do to the dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, cast

import torch

from frostline.core.errors import FOREIGN, DataError, FrostlineError
from frostline.core.inputs import LABEL_KEYS, call, describe, leaves
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

_DTYPES = re.compile(r"same dtype|[Ii]nput type|scalar type|not implemented for '|should be the same")
_INDICES = re.compile(r"argument #1 'indices'.*but got torch\.\w*(Float|Double|Half|BFloat16)Tensor")
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
_UNEXPECTED = re.compile(r"got an unexpected keyword argument")
_COLOURS = (1, 3, 4)
# What a size that does not fit raises: a linear layer behind a flatten, positions, windows, checks of the model's own.
_SIZE = re.compile(
    r"shapes cannot be multiplied|size of tensor|must match the existing size|[Kk]ernel size|[Oo]utput size|input size|"
    r"is invalid for input of size|doesn't match model|[Ee]xpected (input|size)|should be divisible|img_size|"
    r"image (size|height|width)|normalized_shape"
)
# Pixels that networks usually take, the commonest first. The smallest come last: a single patch is broadcast over all
# positions of a vision transformer, which is no size that it takes.
_TRIED = (224, 32, 64, 96, 112, 128, 256, 299, 384, 28, 40, 48, 56, 80, 84, 100, 120, 144, 150, 160, 192, 200, 240, 288,
          300, 320, 336, 400, 416, 448, 480, 512)  # fmt: skip


@contextmanager
def told_mismatch(model: nn.Module, inputs: Any) -> Generator[None]:
    """Inside, an error of the model over the dtype or the axes of these inputs becomes one that names the remedy.

    Args:
        model: Where its weights have several floating dtypes, the error stays as it is.
        inputs: What it was called with.
    """
    try:
        yield
    except (*FOREIGN, FrostlineError) as error:
        cause = error.__cause__ if isinstance(error, FrostlineError) else error
        remedy = _remedy(str(cause), model, inputs)
        if remedy is None:
            if (extra := _extra_keys(str(cause), model, inputs)) is not None:
                raise extra from cause
            image = _image(inputs)
            if _SIZE.search(str(cause)) and image is not None and not _runs(model, inputs):
                raise _wrong_size(model, image, cause) from cause
            if (other := _labels_it_needs(model, inputs, cause) or _lists(model, inputs, cause)) is not None:
                raise other from cause
            raise
        raise DataError(
            what=f"{type(model).__name__} cannot take these inputs as they are.",
            where="the inputs", received=f"{describe(inputs)}; {(str(cause).splitlines() or [''])[0]}",
            do=f"{remedy} in the dataset, and so in an example of it.",
        ) from cause  # fmt: skip


def extra_keys(inputs: Mapping[Any, Any], forward: Callable[..., Any]) -> list[str]:
    """Keys of inputs by name that a forward does not take."""
    taken = signature(forward).parameters
    if any(own.kind is Parameter.VAR_KEYWORD for own in taken.values()):
        return []
    return [str(key) for key in inputs if str(key) not in taken]


def _extra_keys(text: str, model: nn.Module, inputs: Any) -> DataError | None:
    """Of items that are mappings: names that the model does not take, all at once."""
    if not _UNEXPECTED.search(text) or not isinstance(inputs, Mapping):
        return None
    if not (extra := extra_keys(cast("Mapping[Any, Any]", inputs), model.forward)):
        return None
    taken = signature(model.forward).parameters
    return DataError(
        what=f"The items have keys that {type(model).__name__} does not take.", where="the inputs",
        received=f"{', '.join(extra)}; its forward takes {', '.join(taken)}",
        do=f"leave them out of the items (of a dataset of Hugging Face: dataset.remove_columns({extra})), or return "
        "(inputs, target) pairs; a mapping that forward takes whole, in a tuple: ((inputs,), target).",
    )  # fmt: skip


def _labels_it_needs(model: nn.Module, inputs: Any, cause: BaseException | None) -> DataError | None:
    """Of items by name, whose labels became the target: a model that takes labels, and fails without them."""
    if not isinstance(inputs, Mapping) or cause is None:
        return None
    left = [key for key in signature(model.forward).parameters if key in LABEL_KEYS and key not in inputs]
    if not left or _runs(model, inputs):
        return None
    return DataError(
        what=f"{type(model).__name__} fails on the inputs of the items. Their labels are the target, and are not among "
        "these.", where="the inputs",
        received=f"{describe(inputs)}; {(str(cause).splitlines() or [''])[0]}",
        do=f"if the model computes its loss or its decoder's inputs from labels, return ({{**inputs, {left[0]!r}: "
        "labels}, labels) from the dataset, with loss=lambda output, target: output.loss; else correct what the error "
        "names.",
    )  # fmt: skip


def _lists(model: nn.Module, inputs: Any, cause: BaseException | None) -> DataError | None:
    """Of items that hold lists of numbers, as a dataset of Hugging Face gives them: a batch has one tensor for each."""
    if not isinstance(inputs, Mapping) or cause is None:
        return None
    items = cast("Mapping[Any, Any]", inputs).items()
    lists = [str(key) for key, own in items if isinstance(own, (list, tuple))]
    if not lists or _runs(model, inputs):
        return None
    return DataError(
        what=f"{type(model).__name__} fails on the inputs of the items, which hold lists of numbers.",
        where="the inputs", received=f"{', '.join(lists)}; {(str(cause).splitlines() or [''])[0]}",
        do="make them tensors in the dataset: torch.tensor(...); or, of a dataset of Hugging Face, "
        "dataset.with_format('torch').",
    )  # fmt: skip


def _image(inputs: Any) -> torch.Tensor | None:
    """The only input, if it is a batch of images."""
    tensors = list(leaves(inputs).values())
    is_image = len(tensors) == 1 and tensors[0].dim() == 4 and tensors[0].shape[1] in _COLOURS
    return tensors[0] if is_image else None


def _wrong_size(model: nn.Module, image: torch.Tensor, cause: BaseException | None) -> DataError:
    """Names a size that the model takes, which is found by trying."""
    height, width = image.shape[2:]
    taken = next((size for size in _TRIED if _takes(model, image, size)), None)
    found = f"{taken} x {taken} pixels are taken" if taken else "none of the usual sizes from 28 to 512 pixels is taken"
    size = taken if taken is not None else "N"
    return DataError(
        what=f"{type(model).__name__} does not take images of {height} x {width} pixels.", where="the inputs",
        received=f"{describe(image)}; {(str(cause).splitlines() or [''])[0]}; {found}",
        do=f"resize the images to the size that the model takes: --size {size} on the command line; in Python "
        f"frostline.data.ImageFolder(root, frostline.data.CenterCrop({size})), or a resize in the dataset.",
    )  # fmt: skip


def _takes(model: nn.Module, image: torch.Tensor, size: int) -> bool:
    return _runs(model, image.new_zeros(2, image.shape[1], size, size))


def _runs(model: nn.Module, inputs: Any) -> bool:
    kept = kept_buffers(model), kept_attributes(model, numbers=True)
    try:
        with torch.no_grad(), kept_modes(model), kept_generators(), kept[0], kept[1]:
            model.eval()
            call(model, inputs)
    except (*FOREIGN, FrostlineError):
        return False
    return True


def _remedy(text: str, model: nn.Module, inputs: Any) -> str | None:
    tensors = list(leaves(inputs).values())
    steps: list[str] = []
    channels = _CHANNELS.search(text)
    is_of_dtypes = _DTYPES.search(text) is not None
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point() or p.is_complex()}
    other = [tensor for tensor in tensors if kinds and tensor.dtype not in kinds]
    if _INDICES.search(text):
        steps.append("pass whole numbers (inputs.long()) to an embedding")
    elif is_of_dtypes and other and len(kinds) == 1:
        own = str(next(iter(kinds)))
        bytes_ = any(tensor.dtype == torch.uint8 and tensor.dim() > 2 for tensor in other)
        steps.append(f"convert them to the dtype of the weights: inputs.to({own}){' / 255' if bytes_ else ''}")
    last = [tensor.shape[-1] for tensor in tensors if tensor.dim() == 4 and tensor.shape[1] not in _COLOURS]
    if (channels and int(channels[1]) in last) or (steps and any(size in _COLOURS for size in last)):
        steps.append("put the channels first: image.permute(2, 0, 1)")
    return "; ".join(steps) or None
