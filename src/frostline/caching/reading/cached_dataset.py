"""A cached dataset: features and targets of a snapshot, in the order of the dataset it was filled from."""

from __future__ import annotations

import operator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from frostline.caching.reading.exported_rows import Exported, add_targets, stored_table, write_table
from frostline.caching.reading.loader import CachedLoader
from frostline.caching.reading.mix import needs_the_model
from frostline.caching.reading.windows import Windows, must_read
from frostline.caching.samples.columns import Column
from frostline.caching.store.ragged import TargetSizes
from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_device, as_items, as_seed, check_callable, check_flag
from frostline.core.collate import collate_targets
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.padding import pad_rows, sizes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.caching.reading.gather import Gatherer
    from frostline.caching.reading.mix import Mixable
    from frostline.core.given_rows import GivenRows
    from frostline.core.padding import Padding
    from frostline.core.records import CacheFigures, FrontierTensor

Sample = tuple[tuple[Tensor, ...], Any]


class CachedDataset(Dataset[Sample]):
    """What `FeatureCache.fill` gives: a map-style dataset of `(features, target)`, and a loader that is faster.

    Attributes:
        frontier: What the features are, in order.
        figures: Samples, computed now, reused, bytes, folder.
        notes: What a report should mention: torn manifests, damaged shards that were set aside.
        views: Of each sample, as `fill(views=...)` stored them; their rows lie one view behind the other.
    """

    def __init__(
        self, gatherer: Gatherer, targets: Any, figures: CacheFigures, notes: tuple[str, ...],
        device: torch.device | None, check_weights: Callable[[], None] | None = None, views: int = 1,
        mixable: Mixable | None = None, sizes: TargetSizes | None = None,
    ) -> None:  # fmt: skip
        self._sizes = sizes
        self._given: GivenRows | None = None
        self._gatherer, self._targets, self._device = gatherer, targets, device
        self.views, self._mixable = views, mixable
        self._shown = torch.zeros((), dtype=torch.int64, device="cpu")  # the epoch
        if views > 1:  # worker processes that stay from epoch to epoch see it move
            self._shown.share_memory_()
        self._check_weights, self._num_given = check_weights, 0
        self.figures, self.notes = figures, notes

    # The weights are compared before a copy is made for another process, since the copy has no model: rows of changed
    # weights would be served there.
    def __getstate__(self) -> dict[str, Any]:
        if self._check_weights is not None:
            self._check_weights()
        return {**self.__dict__, "_check_weights": None, "_mixable": None, "_given": None}

    @property
    def frontier(self) -> tuple[FrontierTensor, ...]:
        """What the features are, in order."""
        return self._gatherer.frontier

    @property
    def targets(self) -> Any:
        """The targets of all samples in their order, of the current view: a tensor (N, ...), or a structure of them."""
        if self.views == 1:
            return self._targets
        first = self._first_row
        return batches.map_tensors(self._targets, lambda x: x[first : first + len(self)])

    @property
    def lengths(self) -> torch.Tensor | None:
        """The number of stored values of every row, (N,), those of all views; None where all rows have one size."""
        varying = [tensor.name for tensor in self.frontier if tensor.is_varying]
        if not varying:
            return None
        return torch.stack([self._gatherer.ragged(name).shapes_N.prod(1) for name in varying]).sum(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the view of an epoch: what `data[i]`, and a `DataLoader` over it, give from now on.

        A loader of `loader()` that is kept goes on by itself; one that is made for each epoch begins with this epoch.
        Worker processes see it too, those that stay from epoch to epoch (`persistent_workers`) as well.

        Args:
            epoch: Counted from 0; view epoch % views is given.
        """
        self._shown.fill_(as_count("set_epoch", "epoch", epoch, least=0))

    def note_given(self, given: GivenRows) -> None:
        """Note every batch that is given out, for the head that is trained on it."""
        self._given = given
        given.know(self._gatherer)

    @property
    def _epoch(self) -> int:
        return int(self._shown)

    @property
    def _first_row(self) -> int:
        """The first row of the current view."""
        return self._epoch % self.views * len(self)

    def part(self, indices: Sequence[int]) -> CachedDataset:
        """The samples at these positions as a cached dataset of their own; nothing is copied but their targets.

        Args:
            indices: Positions, in the order that the part shall have; negative ones count from the end.

        Returns:
            The same stored rows, all views of these samples; its `figures` are those of the whole.

        Raises:
            DataError: If there are none, or one is not there.
        """
        given, where = as_items("part", "indices", indices), "CachedDataset.part(indices=...)"
        try:
            samples = self._positions(where, given)
        except IndexError as error:
            raise DataError(
                what="A part of a cached dataset needs samples that are there.", where=where, received=str(error),
                do=f"pass positions from 0 to {len(self) - 1}.",
            ) from error  # fmt: skip
        if not len(samples):
            raise DataError(
                what="A part of a cached dataset needs samples.", where=where, received="no positions",
                do=f"pass positions from 0 to {len(self) - 1}.",
            )  # fmt: skip
        return self._of_rows(torch.cat([samples + view * len(self) for view in range(self.views)]), self.views)

    def _of_rows(self, rows: Tensor, views: int) -> CachedDataset:
        """These rows, so many views behind one another."""
        targets = batches.map_tensors(self._targets, lambda x: self._gatherer.chosen(x, rows))
        part = CachedDataset(
            self._gatherer.part(rows), targets, self.figures, self.notes, self._device, self._check_weights,
            views, self._mixable, None if self._sizes is None else self._sizes.part(rows),
        )  # fmt: skip
        part._given = self._given
        return part

    def loader(
        self, batch_size: int, *, shuffle: bool = False, seed: int = 0, drop_last: bool = False,
        device: torch.device | str | None = None, mix: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        by_length: bool | Tensor = False, may_change: bool = False, memory_bytes: int | None = None,
    ) -> CachedLoader:  # fmt: skip
        """Whole batches straight from the mapped rows.

        Args:
            batch_size: Samples per batch.
            shuffle: Another order every epoch, a function of (seed, epoch) alone.
            seed: Of the order.
            drop_last: Leave out a last batch that is not full.
            device: Where the batches go; None is where the model was when the cache was filled.
            by_length: Batches hold samples of like length, so that little of them is padding: samples are sorted within
                50 batches at a time, and the batches come in random order if they are shuffled. Pass a tensor (N,) of
                lengths of your own to sort by these.
            mix: callable(features, target) -> (features, target) that mixes the samples of a batch, such as
                `torchvision.transforms.v2.MixUp`. It is taken only if it gives what mixed inputs would, which
                is compared on some samples: where the frozen layers are linear. Its draws follow from the seed.
            may_change: The loop changes features on purpose (noise, manifold mixup), before the head gets them; else
                such a batch is refused in training, for most are changed by mistake.
            memory_bytes: That stored rows may take in memory; None is half of the memory that this process may have.
                Rows that take more are read, not mapped, a window at a time, and shuffled within it: blocks of
                neighbours (1 MB or less) in random order make up windows (256 MB, or a quarter of the memory), and the
                samples of a window come in random order. So are rows on a disk of another machine, where a mapped file
                may end the process. Rows of differing length, and batches by length, are always mapped.

        Returns:
            An iterable of `(tuple of tensors, target)`; it yields the next epoch every time it is iterated, and of each
            sample the next view. It begins with the epoch of `set_epoch`, the first if none was set.
        """
        call = "loader"
        batch_size, seed = as_count(call, "batch_size", batch_size), as_seed(call, "seed", seed)
        shuffle, drop_last = check_flag(call, "shuffle", shuffle), check_flag(call, "drop_last", drop_last)
        lengths = self._sorted_by(by_length)
        may_change = check_flag(call, "may_change", may_change)
        if memory_bytes is not None:
            memory_bytes = as_count(call, "memory_bytes", memory_bytes)
        place = self._device if device is None else as_device(call, "device", device)
        if mix is not None:
            check_callable(call, "mix", mix, takes="(features, target) -> (features, target)")
            if self._mixable is None:
                raise needs_the_model()
            self._mixable.check(mix)
        loader = CachedLoader(
            self._gatherer, self._targets, len(self), batch_size,
            shuffle=shuffle, seed=seed, drop_last=drop_last, device=place, check_weights=self._check_weights,
            views=self.views, mix=mix, sizes=self._sizes, lengths=lengths, memory_bytes=memory_bytes,
        )  # fmt: skip
        loader.epoch = self._epoch
        loader.given, loader.is_free = self._given, mix is not None or may_change
        return loader

    def _sorted_by(self, by_length: bool | Tensor) -> Tensor | None:
        """The length of every row, those of all views; None where the order does not follow lengths.

        Raises:
            DataError: If lengths of one's own are not one number for each sample.
        """
        if not isinstance(by_length, Tensor):
            return self.lengths if check_flag("loader", "by_length", by_length) else None
        if by_length.shape != (len(self),) or by_length.is_complex():
            raise DataError(
                what="Samples are sorted by one number for each.", where="loader(by_length=...)",
                received=batches.describe(by_length), do=f"pass a tensor of shape ({len(self)},), or True.",
            )  # fmt: skip
        return by_length.cpu().repeat(self.views)

    def __len__(self) -> int:
        return len(self._gatherer.keys) // self.views

    def __getitem__(self, index: int) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Several samples in one gather; `torch.utils.data.DataLoader` reads whole batches this way."""
        count = len(self)
        samples = self._positions("CachedDataset[...]", indices) + self._first_row
        if self._check_weights is not None and self._num_given % count < len(samples):  # about once per epoch
            self._check_weights()
        self._num_given += len(samples)
        if self._given is not None:
            self._given.note(self._gatherer, samples)
        features = self._features(samples)
        targets = batches.map_tensors(self._targets, lambda x: x.index_select(0, samples))
        targets = targets if self._sizes is None else self._sizes.cut(targets, samples)
        found: list[Sample] = []
        for at in range(len(samples)):
            own = tuple(
                feature if tensor.shared else feature[at]
                for feature, tensor in zip(features, self.frontier, strict=True)
            )
            found.append((own, batches.map_tensors(targets, lambda x, at=at: x[at])))
        return found

    def _features(self, samples: Tensor) -> tuple[Tensor, ...]:
        """The features of these samples, after their keys were compared."""
        if self._windows is not None and len(samples):
            return next(self._windows.read(samples).batches(len(samples)))
        self._gatherer.check_keys(samples)
        return self._gatherer.features(samples)

    @cached_property
    def _windows(self) -> Windows | None:
        """Reads rows where mapped ones are not safe."""
        return Windows(self._gatherer) if must_read(self._gatherer) else None

    @public("CachedDataset.collate")
    def collate(self, samples: Sequence[Sample]) -> tuple[tuple[Tensor, ...], Any]:
        """Samples of this dataset as one batch, as `loader` gives it: the `collate_fn` of any `DataLoader`.

        Args:
            samples: What `data[i]` gives, in a list. Rows of differing length are padded as the model's own collate
                function pads; what all samples share stays one tensor.

        Returns:
            (features, target) of the batch.

        Raises:
            DataError: If these are no samples of this dataset.
        """
        given: list[Any] = as_items("CachedDataset.collate", "samples", samples)
        is_pair = all(isinstance(one, tuple) and len(one) == 2 for one in given)
        if (
            not given
            or not is_pair
            or any(not isinstance(features, tuple) or len(features) != len(self.frontier) for features, _ in given)
        ):
            raise DataError(
                what="These are no samples of a cached dataset.", where="CachedDataset.collate(samples)",
                received=batches.describe(given[0]) if given else "an empty list",
                do=f"pass a list of what data[i] gives: ({len(self.frontier)} features in a tuple, target).",
            )  # fmt: skip
        padding = self._gatherer.padding
        columns = zip(*(features for features, _ in given), strict=True)
        features = tuple(
            own[0] if tensor.shared else
            pad_rows(own, padding.value_of(tensor.name) if padding else 0, is_left=bool(padding and padding.is_left))
            for own, tensor in zip(columns, self.frontier, strict=True)
        )  # fmt: skip
        targets = [target for _, target in given]
        if padding is not None and padding.targets:
            return features, padding.batch_of_targets(targets)
        return features, collate_targets(targets, range(len(targets)))

    @public("CachedDataset.export")
    def export(self, path: str | Path) -> Exported:
        """Write ids, targets and features of all samples, in their order, as one plain file.

        Args:
            path: Of the new file: `.safetensors`, or `.parquet` (`pip install 'frostline[parquet]'`). It holds `id`
                (the sample keys), `target` or `target.NAME`, `view` where there are several, and the features by name,
                in the dtype of the model. Features that differ in size stand one behind the other, and `NAME shapes`
                has the shape of each.

        Returns:
            What was written; `print` it.

        Raises:
            DataError: If the path ends with something else, or something stands there.
            CacheError: If the file cannot be written, or a stored row is of another sample.
        """
        figures = self.figures
        about = {"recipe": Path(figures.path).name, "storage": figures.storage, "error": f"{figures.error:.3g}"}
        table = stored_table(self._gatherer, about)
        add_targets(table, self._targets, self._sizes, self.views)
        return write_table(table, path, "CachedDataset.export")

    def _positions(self, where: str, indices: Sequence[int]) -> Tensor:
        """(B,) positions from 0 on.

        Raises:
            DataError: If they are no whole numbers.
            IndexError: If one is beyond the samples, as Python's protocol of sequences has it.
        """
        count = len(self)
        try:
            positions = [operator.index(index) for index in indices]
        except (TypeError, RuntimeError) as error:
            raise DataError(
                what="A sample is selected by its position.", where=where, received=batches.describe(indices),
                do=f"pass whole numbers from 0 to {count - 1}. A DataLoader asks for several at once: "
                "batch_sampler=..., and collate_fn=data.collate.",
            ) from error  # fmt: skip
        for index in positions:
            if not -count <= index < count:
                raise IndexError(f"sample {index} of {count}")
        return torch.tensor([index % count for index in positions], dtype=torch.int64, device="cpu")


def check_targets(targets: Column, padding: Padding | None = None) -> tuple[Any, TargetSizes | None]:
    """The targets of a snapshot as tensors; where they differ in size, padded to the longest, with the size of each.

    Raises:
        DataError: If they do not fit together.
    """
    if padding is None or not padding.targets:
        found = targets.tensor()
        return (_stacked(list(targets)) if found is None else found), None
    every = list(targets)
    sizes = {name: torch.tensor(own, device="cpu") for name, own in sizes_of(every).items() if name in padding.targets}
    return batches.move(padding.batch_of_targets(every), "cpu"), TargetSizes(sizes, is_left=padding.is_left)


def _stacked(targets: list[Any]) -> Any:
    stacked = batches.move(collate_targets(targets, range(len(targets))), "cpu")
    if stacked != batches.NO_TARGET and not batches.leaves(stacked):
        raise DataError(
            what="The targets are not numbers.", where="the dataset's targets",
            received=batches.describe(targets[0]), do="return a class index, a number or a tensor as the target.",
        )  # fmt: skip
    return stacked


def first_view(data: CachedDataset) -> CachedDataset:
    """The first view of every sample, in every epoch: what heads can be compared on."""
    return data if data.views == 1 else data._of_rows(torch.arange(len(data)), 1)
