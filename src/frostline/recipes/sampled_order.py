"""The order of epochs that a sampler of the caller draws: a function of (sampler, seed, epoch), cached or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from frostline.caching import HeldGenerators
from frostline.core.errors import DataError
from frostline.core.generators import kept_state, seed_generator
from frostline.core.inputs import describe
from frostline.core.restore import kept_generators, seed_generators
from frostline.recipes.viewed_data import without_views

_SEEDS = 2**63  # generators of torch take no larger ones
_WHERE = "fit(sampler=...)"


class SampledOrder:
    """The positions that a sampler gives for each epoch.

    Every pass is drawn with seeds of its own: the global generators, and those that the sampler holds, are seeded from
    the run's seed and the epoch, and put back. So a run without a cache, one that is resumed, and each of several
    processes have the same order.

    Args:
        sampler: Gives positions of the dataset each time it is iterated, as samplers of torch do.
        num_samples: Of the dataset.
        seed: Of the run.

    Attributes:
        num_drawn: Samples of an epoch.

    Raises:
        DataError: If it gives batches, positions that are not there, or another order for the same seeds.
    """

    def __init__(self, sampler: Any, num_samples: int, seed: int) -> None:
        if isinstance(sampler, (BatchSampler, DataLoader, Dataset, Iterator, str, type)) or not isinstance(
            sampler, Iterable
        ):
            raise DataError(
                what="This is no sampler of single samples.", where=_WHERE, received=describe(sampler),
                do="pass a torch.utils.data.Sampler that gives one position at a time, such as "
                "WeightedRandomSampler(weights, num_samples); batches are made by batch_size=.",
            )  # fmt: skip
        self._sampler, self._num_samples, self._seed = sampler, num_samples, seed
        self._first = self._drawn(0)
        self.num_drawn = len(self._first)
        if not torch.equal(self._first, self._drawn(0)):
            raise DataError(
                what="The sampler gives another order for the same seeds.", where=_WHERE,
                received="two passes of epoch 1, drawn with the same seeds of python, numpy and torch",
                do="draw from torch, numpy or random, or from a generator that the sampler holds as an attribute; what "
                "changes from epoch to epoch belongs into set_epoch(epoch), which is called before every pass.",
            )  # fmt: skip

    @property
    def described(self) -> dict[str, str]:
        """What a resumed run must have, too: the kind of sampler, and what its first epoch is."""
        digest = hashlib.sha256(self._first.numpy().tobytes()).hexdigest()[:12]
        return {"sampler": f"{type(self._sampler).__name__} {digest}"}

    def order(self, epoch: int) -> Tensor:
        """(num_drawn,) the positions of an epoch, counted from 0.

        Raises:
            DataError: If there are fewer or more than in the first one: the schedule of the run counts steps.
        """
        found = self._drawn(epoch)
        if len(found) != self.num_drawn:
            raise DataError(
                what="The sampler gives another number of samples than in the first epoch.", where=_WHERE,
                received=f"{len(found)} in epoch {epoch + 1}, {self.num_drawn} in epoch 1",
                do="give the same number in every epoch: schedules of the learning rate count their steps.",
            )  # fmt: skip
        return found

    def _drawn(self, epoch: int) -> Tensor:
        digest = hashlib.sha256(f"sampler/1 {self._seed} {epoch}".encode()).digest()
        seed = int.from_bytes(digest[:8], "little") % _SEEDS
        with kept_generators(), ExitStack() as stack:
            for number, generator in enumerate(HeldGenerators(self._sampler).generators):
                stack.enter_context(kept_state(generator))
                seed_generator(generator, (seed + 1 + number) % _SEEDS)
            seed_generators(seed)
            if callable(move := getattr(self._sampler, "set_epoch", None)):
                move(epoch)
            return self._checked(list(self._sampler))

    def _checked(self, given: list[Any]) -> Tensor:
        try:
            found = torch.tensor([int(at) for at in given], dtype=torch.int64, device="cpu")
        except (TypeError, ValueError) as error:
            raise DataError(
                what="The sampler gives no positions.", where=_WHERE, received=describe(given[0]),
                do="give one whole number for each sample; lists of them are batches, which batch_size= makes.",
            ) from error  # fmt: skip
        if not len(found) or int(found.min()) < 0 or int(found.max()) >= self._num_samples:
            odd = next((at for at in found.tolist() if not 0 <= at < self._num_samples), None)
            raise DataError(
                what="The sampler gives positions that are not in the training data.", where=_WHERE,
                received=f"{odd} of {self._num_samples} samples" if odd is not None else "no positions",
                do=f"give positions from 0 to {self._num_samples - 1}: of a part of a dataset, they count in the part.",
            )  # fmt: skip
        return found


def sampled_order(sampler: Any, shown: Any, seed: int) -> SampledOrder | None:
    """The order that a sampler draws of a dataset, of each sample's views too; None without a sampler."""
    return None if sampler is None else SampledOrder(sampler, len(without_views(shown)), seed)
