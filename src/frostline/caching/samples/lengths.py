"""Samples of any length made ready for a fill: how they are padded, and a frozen part that takes every length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching.part import FollowsLengths, items_of
from frostline.caching.samples.collation import Collated
from frostline.core import inputs as batches
from frostline.core.arguments import check_callable
from frostline.core.errors import FOREIGN, DataError, FrostlineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frostline.caching.part import FrozenPart
    from frostline.core.padding import Padding

# Lengths at which a frozen part is recorded, so that its recipe does not follow the data: the first pair that the model
# takes. Powers of two suit models that cut their inputs into pieces: one that takes a length has another size at the
# double length. The longest are for sound, the shortest for models of few positions.
_PAIRS = tuple((2**power, 2 ** (power + 1)) for power in (*range(3, 15), 2, 1))
_SAMPLES = 4  # of the recording
_WHOLE = (torch.int64, torch.int32)  # a number of places


def of_any_length(part: FrozenPart, dataset: Any, collate_fn: Any) -> tuple[Any, Padding | None]:
    """(the samples as a collate function makes them alone, how it pads); the part takes every length then.

    Args:
        part: The frozen part.
        dataset: A map-style dataset.
        collate_fn: Of a `DataLoader`; None where all samples have one size.

    Raises:
        DataError: If the function does more than pad.
        NotCacheable: If the frozen part cannot be cached at more than one length.
    """
    is_varying = any(tensor.is_varying for tensor in part.frontier)
    if collate_fn is None:
        if is_varying:
            raise DataError(
                what="This split takes samples of any length, and no collate function says how they are padded.",
                where="fill(collate_fn=...)", received="None",
                do="pass the collate_fn that the other datasets of this split were filled with.",
            )  # fmt: skip
        return dataset, None
    check_callable("fill", "collate_fn", collate_fn, takes="(list of items), as torch.utils.data.DataLoader takes it")
    samples = Collated(dataset, collate_fn, items_of(part))
    padding = samples.padding()
    if not padding.is_varying and not is_varying:
        return samples, None
    if not is_varying:
        if not isinstance(part, FollowsLengths):
            raise DataError(
                what="This frozen part takes samples of one length only.", where="fill(split, collate_fn=...)",
                received=type(part).__name__, do="pass what frostline.split(model, example) gives.",
            )  # fmt: skip
        _follow(part, samples, padding)
    return samples, padding


def _follow(part: FollowsLengths, samples: Collated, padding: Padding) -> None:
    """Record the part at the first pair of lengths that its model takes."""
    inputs = [samples[index % len(samples)][0] for index in range(_SAMPLES)]
    failure: Exception | None = None
    for pair in _PAIRS:
        shorter, longer = (padding.batch([_resized(own, padding, size) for own in inputs]) for size in pair)
        try:
            part.follow_lengths(shorter, longer)
            return
        except (FrostlineError, *FOREIGN) as error:  # a model may take no sample as short as this
            failure = failure or error
    assert failure is not None
    raise failure


def _resized(inputs: Any, padding: Padding, size: int) -> Any:
    """A sample at another size along each axis that varies: its places from the first on, and its last one.

    A whole number beside it that is its own size, as recurrent layers are told, is the other size then.
    """
    names: Iterator[str] = iter(batches.leaves(inputs))
    own_sizes = {
        tensor.shape[axis] for name, tensor in batches.leaves(inputs).items() for axis in padding.axes.get(name, ())
    }

    def one(tensor: Tensor) -> Tensor:
        axes = padding.axes.get(next(names), ())
        is_number = not axes and tensor.numel() == 1 and tensor.dtype in _WHOLE
        if is_number and int(tensor) in own_sizes:
            return torch.full_like(tensor, size)
        for axis in axes:
            own = tensor.shape[axis]
            places = [at % max(1, own - 1) for at in range(size - 1)] + [own - 1]
            tensor = tensor.index_select(axis, torch.tensor(places, device=tensor.device))
        return tensor

    return batches.map_tensors(inputs, one)
