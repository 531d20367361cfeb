"""Statistics of all the values that a channel takes over many batches, exact up to rounding.

Legend: C channels, n values per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.restore import kept_generators
from frostline.core.tracing import is_in_transform
from frostline.remedies.batchnorm.layers import LastAxisBatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn


class Population:
    """Mean and variance over everything that was added, in float64.

    References:
        Chan, Golub, LeVeque (1983), Algorithms for computing the sample variance, equation 2.1.
    """

    def __init__(self) -> None:
        self.count = 0
        self.num_batches = 0
        self.mean: Tensor = torch.zeros(())
        self._squares: Tensor = torch.zeros(())

    def add(self, values: Tensor, axis: int) -> None:
        """Add a batch whose channels lie on `axis`; every other axis counts values.

        Raises:
            DataError: If it has other channels than the batches before it.
        """
        if is_in_transform(values):
            raise DataError(
                what="A layer is called inside of a transform of torch.func, where its values cannot be read.",
                where="batches", received=f"a layer under torch.vmap or the like, {batches.describe(values)}",
                do="leave this layer out, or call it on whole batches.",
            )  # fmt: skip
        if not values.numel():
            return
        if not -values.dim() <= axis < values.dim():
            raise DataError(
                what="A batch has no axis of features.", where="batches", received=batches.describe(values),
                do="pass batches of several samples, not single ones.",
            )  # fmt: skip
        if self.num_batches and values.shape[axis] != len(self.mean):
            raise DataError(
                what="The batches have different numbers of features.", where="batches",
                received=f"{len(self.mean)} in the first, {values.shape[axis]} in a later one",
                do="pass batches of one shape, but for the number of samples.",
            )  # fmt: skip
        dims = [at for at in range(values.dim()) if at != axis % values.dim()]
        wide = values.detach().to(torch.float32 if values.device.type == "mps" else torch.float64)
        n = values.numel() // values.shape[axis]
        variance_C, mean_C = torch.var_mean(wide, dims, correction=0)
        total = self.count + n
        apart_C = mean_C - self.mean.to(mean_C)
        self.mean = self.mean.to(mean_C) + apart_C * (n / total)
        self._squares = self._squares.to(mean_C) + variance_C * n + apart_C**2 * (self.count * n / total)
        self.count = total
        self.num_batches += 1

    @property
    def variance(self) -> Tensor:
        """(C,): unbiased, as a BatchNorm's running variance is."""
        return self._squares / max(self.count - 1, 1)

    def check(self, name: str) -> None:
        """Raise unless a mean and a variance can be computed.

        Raises:
            DataError: If there are fewer than two values per channel, or some are not finite.
        """
        if self.count < 2:
            raise DataError(
                what="A BatchNorm needs at least two values per channel.", where=name,
                received=f"{self.count} in all batches together", do="pass more samples.",
            )  # fmt: skip
        if not bool(torch.isfinite(self.mean).all() and torch.isfinite(self._squares).all()):
            raise DataError(
                what="The values that a BatchNorm is to measure are not finite.", where=name,
                received="NaN or infinity", do="check the batches, and the layers below.",
            )  # fmt: skip


class Replay:
    """Batches as model inputs, on the model's device, as often as they are iterated.

    Args:
        model: Called with them.
        given: Items `(inputs, target)`, mappings with a label, or inputs alone. An iterator is kept in memory.
    """

    def __init__(self, model: nn.Module, given: Iterable[Any]) -> None:
        if isinstance(given, (torch.Tensor, str, bytes, type)) or not (
            hasattr(given, "__iter__") or hasattr(given, "__getitem__")
        ):
            raise DataError(
                what="The batches cannot be gone through.", where="batches", received=batches.describe(given),
                do="pass a DataLoader, or a list of (inputs, target) or of inputs.",
            )  # fmt: skip
        self._items = list(given) if hasattr(given, "__next__") else given
        self._keep = batches.required_labels(model.forward)
        parameter = next(model.parameters(), None)
        self._device = parameter.device if parameter is not None else None

    def __iter__(self) -> Iterator[Any]:
        is_empty = True
        for item in self._items:
            is_empty = False
            yield batches.move(inputs_of(item, self._keep), self._device)
        if is_empty:
            raise DataError(
                what="There are no batches.", where="batches", received="an iterable without items",
                do="pass a DataLoader, a list of batches, or another iterable that has not been used up.",
            )  # fmt: skip

    def first(self) -> Any:
        """The inputs of the first batch."""
        with kept_generators():  # a loader that shuffles draws
            return next(iter(self))


def inputs_of(item: Any, keep: frozenset[str] = frozenset()) -> Any:
    """The inputs of a batch: the first of a pair, a mapping without its label, or the item itself.

    Two inputs without a target look like a pair: pass `((first, second), None)`.
    """
    if isinstance(item, Mapping):
        return {key: value for key, value in item.items() if key not in batches.LABEL_KEYS or key in keep}
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0]
    return item


def channel_axis(norm: nn.Module) -> int:
    """Where a BatchNorm finds its channels."""
    return -1 if isinstance(norm, LastAxisBatchNorm) else 1
