"""The order of the samples in an epoch: a pure function of (number, seed, epoch)."""

from __future__ import annotations

import torch
from torch import Tensor

_WINDOW = 50  # batches that are sorted together: wide enough for batches of like length, narrow enough for chance


def grouped_by_length(
    order: Tensor, lengths: Tensor, batch_size: int, *, shuffle: bool, seed: int, epoch: int
) -> Tensor:  # fmt: skip
    """The same samples in another order, whose batches hold samples of like length.

    Args:
        order: (N,) positions of an epoch.
        lengths: The length of the sample at every position that may occur.
        batch_size: Samples per batch.
        shuffle: Batches come in random order too.
        seed: As of `epoch_order`.
        epoch: As of `epoch_order`.

    Example:
        >>> order = grouped_by_length(torch.arange(4), torch.tensor([9, 2, 8, 3]), 2, shuffle=False, seed=0, epoch=0)
        >>> order.tolist()
        [1, 3, 2, 0]
    """
    windows = [own[lengths[own].argsort(stable=True)] for own in order.split(_WINDOW * batch_size)]
    batches = list(torch.cat(windows).split(batch_size))
    if shuffle:
        generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch + 1) % 2**63)
        full = batches if len(batches[-1]) == batch_size else batches[:-1]  # a batch that is not full stays the last
        full = [full[at] for at in torch.randperm(len(full), generator=generator, device="cpu").tolist()]
        batches = [*full, *batches[len(full) :]]
    return torch.cat(batches)


def own_part(order: Tensor, batch_size: int, rank: int, count: int) -> Tensor:
    """Of every batch of an epoch, the positions that one of several processes trains on.

    Args:
        order: (N,) positions of an epoch.
        batch_size: Samples per batch of all processes together, a multiple of `count`.
        rank: Of the process, counted from 0.
        count: How many processes there are.

    Returns:
        (M,) the parts in order: `batch_size // count` positions of each full batch, then those of the last batch. Where
        the last batch has fewer samples than there are processes, those without one get its first sample.

    Example:
        >>> [own_part(torch.arange(7), 4, rank, 2).tolist() for rank in range(2)]
        [[0, 1, 4, 5], [2, 3, 6]]
    """
    num_full = len(order) // batch_size * batch_size
    own = [order[:num_full].view(-1, count, batch_size // count)[:, rank].reshape(-1)]
    if len(rest := order[num_full:]):
        own.append(rest.tensor_split(count)[rank] if rank < len(rest) else rest[:1])
    return torch.cat(own)


def epoch_order(num_samples: int, *, shuffle: bool, seed: int, epoch: int, views: int = 1) -> Tensor:
    """Positions of the samples in the order of one epoch, the same on every machine and in every loop.

    Args:
        num_samples: Samples in the dataset.
        shuffle: False gives 0, 1, 2, ...
        seed: Any integer.
        epoch: Counted from 0; another epoch is another order.
        views: Of each sample; epoch e gives view e % views, at the positions from view * num_samples on.

    Returns:
        An int64 tensor of shape (num_samples,).

    Example:
        >>> epoch_order(3, shuffle=False, seed=0, epoch=0).tolist()
        [0, 1, 2]
        >>> torch.equal(*(epoch_order(9, shuffle=True, seed=1, epoch=4) for _ in range(2)))
        True
    """
    first = epoch % views * num_samples
    if not shuffle:
        return torch.arange(first, first + num_samples, device="cpu")
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(num_samples, generator=generator, device="cpu").add_(first)


def windowed_order(num_samples: int, *, block: int, window: int, seed: int, epoch: int, views: int = 1) -> Tensor:
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

    Example:
        >>> windowed_order(8, block=2, window=4, seed=0, epoch=0).tolist()
        [0, 2, 3, 1, 5, 4, 6, 7]
    """
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + epoch) % 2**63)
    blocks = torch.randperm(-(-num_samples // block), generator=generator, device="cpu")
    order = (blocks[:, None] * block + torch.arange(block, device="cpu")).reshape(-1)
    order = order[order < num_samples]  # the last block may be shorter
    parts = [own[torch.randperm(len(own), generator=generator, device="cpu")] for own in order.split(window)]
    return torch.cat(parts).add_(epoch % views * num_samples)
