"""Batches of a plain dataset in the same order as those of a cached one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.collate import collate, collate_targets, collated
from frostline.core.errors import DataError
from frostline.core.item_form import PAIRS, ItemForm
from frostline.core.order import epoch_order, grouped_by_length, own_part
from frostline.core.workers import in_workers
from frostline.training.losses import IGNORED, CrossEntropy, is_cross_entropy
from frostline.training.metrics import Metric, check_whole_set

if TYPE_CHECKING:
    from frostline.core.order import DrawnOrder

_LOOKED_AT = 8  # items whose targets are looked at before anything runs


class DatasetBatches:
    """Batches `(inputs, target)` of a map-style dataset; every pass is the next epoch.

    Args:
        dataset: Items are `(inputs, target)`, or mappings with a label.
        batch_size: Samples per batch.
        form: Which parts of an item, or of a batch of `collate_fn`, are inputs.
        shuffle: Another order every epoch.
        seed: Of the order.
        dtype: Of a model of one precision: floats of the inputs are converted to it; None leaves them as they are.
        num_workers: Processes that read the samples of a pass; 0 reads them in this one.
        views: Of each sample; the dataset holds them one behind the other, and a pass reads the next view.
        collate_fn: Makes a batch of a list of items, as that of a `DataLoader`; None stacks them.
        by_length: Batches hold samples of like length; all items are read once more for it.
        drawn: Draws the order of a pass, in place of the seed.

    Attributes:
        part: (rank, number of processes) of the part of every batch that is read; (0, 1) reads all of it.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        form: ItemForm = PAIRS,
        shuffle: bool = False,
        seed: int = 0,
        dtype: torch.dtype | None = None,
        num_workers: int = 0,
        views: int = 1,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        by_length: bool = False,
        drawn: DrawnOrder | None = None,
    ) -> None:
        batches.check_map_style(dataset)
        self.dataset, self.batch_size, self.form = dataset, batch_size, form
        self.shuffle, self.seed, self.epoch, self.dtype = shuffle, seed, 0, dtype
        self.num_workers, self.views, self.collate_fn, self.by_length = num_workers, views, collate_fn, by_length
        self.part, self.drawn = (0, 1), drawn

    @property
    def num_items(self) -> int:
        """Samples of the dataset."""
        return len(self.dataset) // self.views

    @property
    def num_samples(self) -> int:
        """Samples of one pass."""
        return self.num_items if self.drawn is None else self.drawn.num_drawn

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    @cached_property
    def lengths(self) -> torch.Tensor:
        """(N,) the number of values of each sample's inputs."""
        alone = in_workers(self._length, [*range(len(self.dataset))], self.num_workers)
        return torch.tensor(list(alone), device="cpu")

    def _length(self, index: int) -> int:
        return sum(tensor.numel() for tensor in batches.leaves(self.batch([index])[0]).values())

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        same: dict[str, Any] = {"shuffle": self.shuffle, "seed": self.seed, "epoch": self.epoch}
        whole = (
            epoch_order(self.num_items, views=self.views, **same) if self.drawn is None
            else self.drawn.order(self.epoch) + self.epoch % self.views * self.num_items
        )  # fmt: skip
        whole = grouped_by_length(whole, self.lengths, self.batch_size, **same) if self.by_length else whole
        order = own_part(whole, self.batch_size, *self.part).tolist()
        size = self.batch_size // self.part[1]
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        yield from in_workers(self.batch, parts, self.num_workers, seed=(self.seed + self.epoch) % 2**63)
        self.epoch += 1

    def batch(self, indices: list[int]) -> tuple[Any, Any]:
        """The samples at these positions as one batch."""
        if self.collate_fn is not None:
            read = [batches.read(self.dataset, index) for index in indices]
            inputs, target = self.form.unpack(self.collate_fn(read), indices[0])
            inputs = collated(inputs)
            return in_dtype(inputs, self.dtype), _checked(collated(target), inputs)
        items = [self.form.unpack(batches.read(self.dataset, index), index) for index in indices]
        inputs = in_dtype(collate([inputs for inputs, _ in items], indices), self.dtype)
        return inputs, _checked(collate_targets([target for _, target in items], indices), inputs)

    def first_targets(self, count: int) -> Any:
        """Targets of the first samples as one batch."""
        if self.collate_fn is not None:
            return self.batch([*range(min(count, self.num_items))])[1]
        return first_targets(self.dataset, count, self.form)


def _checked(target: Any, inputs: Any) -> Any:
    """The target of a batch.

    Raises:
        DataError: If the items have none.
    """
    if not isinstance(target, tuple) or target:
        return target
    raise DataError(
        what="The items hold inputs only, and a training with fit compares outputs with a target.", where="dataset[0]",
        received=batches.describe(inputs),
        do="return a target behind the inputs, such as 0 where the loss is a function of yours that reads none; a "
        "loop of your own over FeatureCache.fill takes inputs only.",
    )  # fmt: skip


def in_dtype(inputs: Any, dtype: torch.dtype | None) -> Any:
    """Inputs whose floats are of this dtype; None leaves them as they are."""
    if dtype is None:
        return inputs
    return batches.map_tensors(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)


def check_targets(dataset: Any, loss: Any, where: str, form: ItemForm = PAIRS) -> None:
    """Raise if the targets cannot be used, before anything is computed.

    Those of the first items are looked at, and all of a dataset that holds them in one tensor.

    Args:
        dataset: Items are `(inputs, target)`, or mappings with a label.
        loss: Its name, or a callable: then targets may be anything.
        where: The argument, for the error.
        form: Which parts of an item are inputs.

    Raises:
        DataError: If there are none, if they are texts, not what cross entropy takes, or none of them counts.
    """
    if not isinstance(loss, (str, CrossEntropy)):
        return
    batches.check_map_style(dataset)
    indices = list(range(min(_LOOKED_AT, len(dataset))))
    targets = [_target(dataset, index, form) for index in indices]
    try:
        shown = collate_targets(targets, indices)
    except DataError as error:
        place = f"{where}, {error.where}"
        raise DataError(what=error.what, where=place, received=error.received, do=error.do) from error
    if not is_cross_entropy(loss):
        return
    if isinstance(shown, torch.Tensor) and shown.dim() < 2 and (shown.is_floating_point() or shown.dtype == torch.bool):
        raise DataError(
            what="Cross entropy needs class indices as targets, or probabilities in the shape of the output.",
            where=where, received=batches.describe(shown),
            do="return an integer class index as the target, int(label); or pass loss='mse', loss='bce' or a callable.",
        )  # fmt: skip
    every = _all_targets(dataset)
    if every is not None and not every.is_floating_point() and bool((every == IGNORED).all()):
        raise DataError(
            what="No sample has a label.", where=where, received=f"{len(every)} targets, all of them {IGNORED}",
            do="check the labels: -100 stands for 'no label here'.",
        )  # fmt: skip


def first_targets(dataset: Any, count: int, form: ItemForm = PAIRS) -> Any:
    """Targets of the first samples as one batch; inputs are not read where the dataset offers targets alone."""
    indices = [*range(min(count, len(dataset)))]
    return collate_targets([_target(dataset, index, form) for index in indices], indices)


def _target(dataset: Any, index: int, form: ItemForm) -> Any:
    """The target of an item, without the item where the dataset offers it so, as `ImageFolder` does."""
    offered = getattr(dataset, "target", None) if hasattr(dataset, "sample_key") else None
    if callable(offered):
        return offered(index)
    return form.unpack(batches.read(dataset, index), index)[1]


def check_metric_targets(
    metrics: Mapping[str, str | Metric], dataset: Any, labels: torch.Tensor | None
) -> None:  # fmt: skip
    """Raise if a metric by name has no value over all targets of the validation data, where these are known.

    Args:
        metrics: By name.
        dataset: The validation data; nothing is read of it.
        labels: Its class indices (N,), if it keeps them.

    Raises:
        DataError: If AUROC has one class only, or all targets of R2 are the same.
    """
    every = _all_targets(dataset)
    targets = every if every is not None else labels
    if targets is not None and len(targets):
        for metric in metrics.values():
            if isinstance(metric, str):
                check_whole_set(metric, targets)


# Reading every item for its label would decode the whole dataset before training. Labels that lie in one tensor cost
# nothing; others are checked where the loss meets them.
def _all_targets(dataset: Any) -> torch.Tensor | None:
    """All targets as one tensor, where the dataset holds them so; nothing is read for it."""
    tensors = getattr(dataset, "tensors", None)
    found = tensors[1] if isinstance(tensors, tuple) and len(tensors) == 2 else getattr(dataset, "targets", None)
    return found if isinstance(found, torch.Tensor) else None
