"""The order of the samples in an epoch: a pure function of (number, seed, epoch).

Where `folder` is given, a large order lies on its disk (`core/disk_array.py`), as int32 where that is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from frostline.core.disk_array import disk_tensor

if TYPE_CHECKING:
    from pathlib import Path

_WINDOW = 50  # batches that are sorted together: wide enough for batches of like length, narrow enough for chance


class DrawnOrder(Protocol):
    """An order of epochs that somebody else draws, in place of `epoch_order`."""

    @property
    def num_drawn(self) -> int:
        """Samples of an epoch."""
        ...

    @property
    def described(self) -> dict[str, str]:
        """What makes it the same order, as text."""
        ...

    def order(self, epoch: int) -> Tensor:
        """(num_drawn,) positions of an epoch."""
        ...


def grouped_by_length(
    order: Tensor, lengths: Tensor, batch_size: int, *, shuffle: bool, seed: int, epoch: int, folder: Path | None = None
) -> Tensor:  # fmt: skip
    """The same samples in another order, whose batches hold samples of like length.

    Args:
        order: (N,) positions of an epoch.
        lengths: The length of the sample at every position that may occur.
        batch_size: Samples per batch.
        shuffle: Batches come in random order too.
        seed: As of `epoch_order`.
        epoch: As of `epoch_order`.
        folder: As of `epoch_order`.

    Example:
        >>> order = grouped_by_length(torch.arange(4), torch.tensor([9, 2, 8, 3]), 2, shuffle=False, seed=0, epoch=0)
        >>> order.tolist()
        [1, 3, 2, 0]
    """
    grouped = _same(order, folder)
    for own, place in zip(order.split(_WINDOW * batch_size), grouped.split(_WINDOW * batch_size), strict=True):
        place.copy_(own[lengths[own].argsort(stable=True)])
    num_full = len(order) // batch_size
    if not shuffle or not num_full:
        return grouped
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch + 1) % 2**63)
    chosen, end = torch.randperm(num_full, generator=generator, device="cpu"), num_full * batch_size
    shuffled = _same(order, folder)
    torch.index_select(
        grouped[:end].view(num_full, batch_size), 0, chosen, out=shuffled[:end].view(num_full, batch_size)
    )
    shuffled[end:] = grouped[end:]  # a batch that is not full stays the last
    return shuffled


def own_part(order: Tensor, batch_size: int, rank: int, count: int, folder: Path | None = None) -> Tensor:
    """Of every batch of an epoch, the positions that one of several processes trains on.

    Args:
        order: (N,) positions of an epoch.
        batch_size: Samples per batch of all processes together, a multiple of `count`.
        rank: Of the process, counted from 0.
        count: How many processes there are.
        folder: As of `epoch_order`.

    Returns:
        (M,) the parts in order: `batch_size // count` positions of each full batch, then those of the last batch. Where
        the last batch has fewer samples than there are processes, those without one get its first sample.

    Example:
        >>> [own_part(torch.arange(7), 4, rank, 2).tolist() for rank in range(2)]
        [[0, 1, 4, 5], [2, 3, 6]]
    """
    if count == 1:
        return order
    num_full, size = len(order) // batch_size, batch_size // count
    rest = order[num_full * batch_size :]
    last = (rest.tensor_split(count)[rank] if rank < len(rest) else rest[:1]) if len(rest) else rest
    own = _new(num_full * size + len(last), order.dtype, folder)
    own[: num_full * size].view(num_full, size).copy_(
        order[: num_full * batch_size].view(num_full, count, size)[:, rank]
    )
    own[num_full * size :] = last
    return own


def epoch_order(
    num_samples: int, *, shuffle: bool, seed: int, epoch: int, views: int = 1, folder: Path | None = None
) -> Tensor:  # fmt: skip
    """Positions of the samples in the order of one epoch, the same on every machine and in every loop.

    Args:
        num_samples: Samples in the dataset.
        shuffle: False gives 0, 1, 2, ...
        seed: Any integer.
        epoch: Counted from 0; another epoch is another order.
        views: Of each sample; epoch e gives view e % views, at the positions from view * num_samples on.
        folder: On the disk that takes a large order, see above; None is memory.

    Returns:
        A tensor of whole numbers of shape (num_samples,); int64 without a folder.

    Example:
        >>> epoch_order(3, shuffle=False, seed=0, epoch=0).tolist()
        [0, 1, 2]
        >>> torch.equal(*(epoch_order(9, shuffle=True, seed=1, epoch=4) for _ in range(2)))
        True
    """
    first = epoch % views * num_samples
    order = _new(num_samples, _kind(num_samples * views, folder), folder)
    if not shuffle:
        return torch.arange(first, first + num_samples, out=order, device="cpu")
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch) % 2**63)
    # the draw does not depend on the type
    return torch.randperm(num_samples, generator=generator, out=order, device="cpu").add_(first)


def windowed_order(
    num_samples: int, *, block: int, window: int, seed: int, epoch: int, views: int = 1, folder: Path | None = None
) -> Tensor:  # fmt: skip
    """Positions in a random order that reads a dataset larger than memory in pieces, the same on every machine.

    The samples are cut into blocks of neighbours. The blocks come in random order, are cut into windows, and the
    samples of a window come in random order: whoever holds one window in memory reads every block once.

    Args:
        num_samples: Samples in the dataset.
        block: Neighbours that stay in one window, or in two that follow each other.
        window: Samples that are shuffled together.
        seed: As of `epoch_order`.
        epoch: As of `epoch_order`.
        views: As of `epoch_order`.
        folder: As of `epoch_order`.

    Example:
        >>> windowed_order(8, block=2, window=4, seed=0, epoch=0).tolist()
        [0, 2, 3, 1, 5, 4, 6, 7]
    """
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch) % 2**63)
    kind, first = _kind(num_samples * views, folder), epoch % views * num_samples
    num_blocks = -(-num_samples // block)
    blocks = torch.randperm(num_blocks, generator=generator, out=_new(num_blocks, kind, folder), device="cpu")
    order = _new(num_samples, kind, folder)
    at = 0
    for own in blocks.split(max(1, window // block)):
        places = (own[:, None] * block + torch.arange(block, dtype=kind, device="cpu")).reshape(-1)
        places = places[places < num_samples]  # the last block may be shorter
        order[at : at + len(places)] = places
        at += len(places)
    for own in order.split(window):
        own.copy_(own[torch.randperm(len(own), generator=generator, device="cpu")])
    return order.add_(first)


def _kind(most: int, folder: Path | None) -> torch.dtype:
    return torch.int64 if folder is None or most > torch.iinfo(torch.int32).max else torch.int32


def _new(count: int, kind: torch.dtype, folder: Path | None) -> Tensor:
    return disk_tensor((count,), kind, folder)


def _same(order: Tensor, folder: Path | None) -> Tensor:
    return _new(len(order), order.dtype, folder)
