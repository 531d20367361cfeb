"""Batches as trials need them: in memory, some held out, rows known by their content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

Batch = tuple[Any, Any]


def as_batches(given: Iterable[Any], model: nn.Module, steps: int | None) -> list[Batch]:
    """Batches of (inputs, target) on the model's device.

    Raises:
        DataError: If there are none, or an item is not a pair.
    """
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise DataError(
            what="The model has no parameters: there is nothing to check.", where=type(model).__name__,
            received="0 parameters", do="pass the module that trains.",
        )  # fmt: skip
    found: list[Batch] = []
    keep = batches.required_labels(model.forward)
    for at, item in enumerate(given):
        if steps is not None and at >= steps:
            break
        inputs, target = batches.unpack(item, at, keep)
        found.append((batches.move(inputs, parameter.device), batches.move(target, parameter.device)))
    if len(found) < 2:
        raise DataError(
            what="There are too few batches.", where="batches", received=f"{len(found)} batches",
            do="pass a list of some dozens of batches, or a DataLoader; an iterator that has been used up gives none.",
        )  # fmt: skip
    return found


def held_out(data: Sequence[Batch], fold: int = 0) -> tuple[list[Batch], list[Batch]]:
    """(batches to train on, batches to judge by): no row is in both.

    The last fifth is held out if its rows are new. Where epochs repeat their rows, a fifth of the rows is held out:
    they are taken out of every batch.

    Args:
        data: The batches.
        fold: Which fifth of repeated rows is held out, 0 to 4.
    """
    count = max(1, len(data) // 5)
    keys = [_row_keys(inputs) for inputs, _ in data]
    seen = {key for batch in keys[:-count] for key in batch}
    if not seen & {key for batch in keys[-count:] for key in batch}:
        return list(data[:-count]), finite_rows(data[-count:])
    held = {key for key in sorted({key for batch in keys for key in batch}) if key % 5 == fold}
    rest: list[Batch] = []
    judged: list[Batch] = []
    taken: set[int] = set()
    for (inputs, target), batch in zip(data, keys, strict=True):
        kept = [at for at, key in enumerate(batch) if key not in held]
        new = [at for at, key in enumerate(batch) if key in held and key not in taken]
        taken.update(batch[at] for at in new)
        rest += [_rows(inputs, target, kept)] if len(kept) > 1 or len(kept) == len(batch) else []
        judged += [_rows(inputs, target, new)] if new else []
    if not rest or not judged:
        rest, judged = list(data[:-count]), list(data[-count:])
    return rest, finite_rows(judged)


def _row_keys(inputs: Any) -> list[int]:
    """A number for each sample that is the same for the same content."""
    size = batches.batch_size(inputs)
    tensors = [t.detach().cpu() for t in batches.leaves(inputs).values() if t.dim() > 0 and len(t) == size]
    rows = [t.contiguous().reshape(size, -1).view(torch.uint8).numpy() for t in tensors if t.numel()]
    return [
        int.from_bytes(hashlib.blake2b(b"".join(t[at].tobytes() for t in rows), digest_size=8).digest(), "big")
        for at in range(size)
    ]


def _rows(inputs: Any, target: Any, chosen: list[int]) -> Batch:
    index, size = torch.tensor(chosen), batches.batch_size(inputs)
    device = next(iter(batches.leaves(inputs).values())).device

    def of_target(tensor: Tensor) -> Tensor:
        return tensor[index.to(tensor.device)] if tensor.dim() and len(tensor) == size else tensor

    return batches.rows(inputs, index.to(device)), batches.map_tensors(target, of_target)


def finite_rows(data: Sequence[Batch]) -> list[Batch]:
    """The batches without samples that hold NaN or infinity: nobody can be judged by those."""
    found: list[Batch] = []
    for inputs, target in data:
        size = batches.batch_size(inputs)
        is_finite = torch.ones(size, dtype=torch.bool)
        for tensor in batches.leaves(inputs).values():
            if tensor.is_floating_point() and tensor.dim() > 0 and len(tensor) == size:
                is_finite &= torch.isfinite(tensor).reshape(size, -1).all(dim=1).cpu()
        kept = is_finite.nonzero().flatten().tolist()
        if len(kept) == size:
            found.append((inputs, target))
        elif kept:
            found.append(_rows(inputs, target, kept))
    return found or list(data)
