"""The proof of rows while a cache is filled: a row is the same whatever else its batch holds, at any place and size.

A few rows are kept with the inputs that they came from: some drawn at random, and the most unusual ones. Before rows
are published, the kept ones are computed again, usual and unusual ones together, and the head is proven on them.

Legend: B batch, S statistics of a sample.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.errors import FrostlineError, NotCacheable
from frostline.core.padding import groups_of_one_size, own_part, pad_rows
from frostline.core.tolerances import relative_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.caching.fill.frozen_pass import Computer

# Rows computed for the proof, as a share of the rows of the fill; the last proof is made however few rows there are.
BUDGET = 0.02
_PROVEN = 8  # kept rows of one proof, usual and unusual ones
_COST = 4 * _PROVEN + 2  # rows that it computes: in two orders, two and one of them, and by the model in both modes
_KEPT = 16  # of each kind; more show nothing that these do not
# Of a frozen part whose values steer Python, so many rows are proven alone and in pairs.
_STEERED = 64
_LARGEST = 1e30  # of a statistic; its square is finite
_MAX_KEPT_BYTES = 128 * 2**20  # of each kind, inputs and features; one row is kept however large it is


@dataclass
class _Row:
    """A row as it was computed for the first time."""

    index: int
    inputs: Any
    features: dict[str, Tensor]
    score: float


class RowProof:
    """Computes some rows again, in other batches, and compares.

    Args:
        computer: Runs the frozen part.
        seed: Of the choice of usual rows.
    """

    def __init__(self, computer: Computer, seed: int = 0) -> None:
        self.computer = computer
        self._random = random.Random(seed)
        self._usual: list[_Row] = []
        self._unusual: list[_Row] = []
        self._ends: list[_Row] = []
        self._seen = self.num_proven = self._num_by_model = 0
        self._count, self._mean, self._square = 0, torch.zeros(0, device="cpu"), torch.zeros(0, device="cpu")

    def offer(self, inputs: Sequence[Any], batch: Any, indices: Sequence[int], rows: dict[str, Tensor]) -> None:
        """Take rows that were just computed.

        Args:
            inputs: Inputs of B single samples.
            batch: The same, stacked.
            indices: Their positions in the dataset.
            rows: (B, *shape) by the name of the frontier tensor.
        """
        scores = self._scores(batch, rows)

        def kept(at: int) -> _Row:
            own = {name: tensor[at].clone() for name, tensor in rows.items()}
            return _Row(indices[at], inputs[at], own, scores[at])

        most = max(1, min(_KEPT, _MAX_KEPT_BYTES // _num_bytes(inputs[0], rows)))
        for at in range(len(inputs)):
            self._seen += 1
            place = len(self._usual) if len(self._usual) < most else self._random.randrange(self._seen)
            if place < most:  # every row so far has the same chance to be kept
                self._usual[place : place + 1] = [kept(at)]
        least = self._unusual[-1].score if len(self._unusual) == most else -1.0
        found = sorted(range(len(inputs)), key=lambda at: -scores[at])[:most]
        self._unusual += [kept(at) for at in found if scores[at] > least]
        self._unusual = sorted(self._unusual, key=lambda row: -row.score)[:most]
        self._ends = [*self._ends[:1], kept(len(inputs) - 1)] if self._ends else [kept(0), kept(len(inputs) - 1)]
        if self.computer.padding is not None:  # the shortest and the longest sample
            self._ends = [order(self._ends, key=_num_values) for order in (min, max)]
        num_left = _STEERED - (self._seen - len(inputs))
        if self.computer.is_steered and num_left > 0:
            self._prove_places([kept(at) for at in range(min(num_left, len(inputs)))])

    def check(self, *, is_last: bool = False) -> None:
        """Compute kept rows again, few of them where the budget is spent, and compare.

        Raises:
            NotCacheable: If a row depends on the other samples of its batch, its place or the batch size.
            SplitError: If the head is not the model on these rows.
        """
        if not self._usual:
            return
        is_whole = is_last or self.num_proven + self._num_by_model + _COST <= BUDGET * self._seen
        rows = self._chosen()[: _PROVEN if is_whole else 2]
        features: tuple[Tensor, ...] = ()
        if is_whole:
            # the same rows in two orders: every one changes its neighbours and the parity of its place
            features = self._compare(rows)
            self._compare([*rows[1:], rows[0]][: max(1, len(rows) - 1)])
        self._compare(rows[:2][::-1])
        self._compare(rows[:1])
        if is_last and self.computer.is_steered:
            self._prove_places(self._chosen())
        if is_whole:
            self._num_by_model += 2 * len(rows)
            self.computer.prove([row.inputs for row in rows], [row.index for row in rows], features)

    def _prove_places(self, rows: Sequence[_Row]) -> None:
        """Where a value steers, one sample may decide for its batch: let every one decide alone, and for another.

        A sample alone is the first, the last and the only one. In pairs each is the first once, and the second once.
        """
        for row, following in zip(rows, [*rows[1:], rows[0]], strict=True):
            self._compare([row])
            self._compare([row, following])

    def _chosen(self) -> list[_Row]:
        """Unusual and usual rows in turns, and the first and the last of all."""
        usual = self._random.sample(self._usual, len(self._usual))
        found: dict[int, _Row] = {}
        for group in zip_longest(self._unusual, usual, self._ends):
            for row in filter(None, group):
                found.setdefault(row.index, row)
        return list(found.values())

    def _compare(self, rows: Sequence[_Row]) -> tuple[Tensor, ...]:
        """Compute rows again, compare them, and give the features of this batch."""
        self.num_proven += len(rows)
        features = self._computed(rows)
        for name in rows[0].features:
            tensor = features[name]
            for at, row in enumerate(rows):
                difference = relative_difference(self._own_part(tensor[at], row.features[name]), row.features[name])
                if difference > self.computer.tolerance_of(tensor):
                    if self.computer.padding is not None and tensor[at].numel() != row.features[name].numel():
                        raise row_depends_on_padding(name, row, rows, difference)
                    raise row_depends_on_batch(name, row.index, difference, self.computer.tolerance_of(tensor))
        return tuple(self._as_loaded(name, own, rows) for name, own in features.items())

    def _computed(self, rows: Sequence[_Row]) -> dict[str, Tensor]:
        """Features of rows; of a model that takes no batch of this size (pairs only), beside one of them once more."""
        failed: Exception | None = None
        for more in ((), rows[:1]):
            batch = [*rows, *more]
            try:
                found = self.computer.again([row.inputs for row in batch], [row.index for row in batch])
            except FrostlineError:
                raise
            except Exception as error:  # the same samples were computed before, in another batch
                failed = failed or error
                continue
            return {name: own[: len(rows)] if name in rows[0].features else own for name, own in found.items()}
        raise _refuses_batch(len(rows), failed) from failed

    def _own_part(self, computed: Tensor, row: Tensor) -> Tensor:
        """The places of a computed row that are the sample's own; the row as it is where nothing is padded."""
        padding = self.computer.padding
        if padding is None or computed.dim() != row.dim():
            return computed
        return own_part(computed, row.shape, is_left=padding.is_left)

    def _as_loaded(self, name: str, computed: Tensor, rows: Sequence[_Row]) -> Tensor:
        """A feature of a batch as a loader gives it: padded, where it is stored without padding."""
        padding = self.computer.padding
        if padding is None or name not in rows[0].features:
            return computed
        value = padding.value_of(name)
        return pad_rows([row.features[name] for row in rows], value, is_left=padding.is_left).to(computed.device)

    def _scores(self, batch: Any, rows: dict[str, Tensor]) -> list[float]:
        """How unusual each sample is: the largest deviation of its statistics, in standard deviations so far."""
        count_B = len(next(iter(rows.values())))
        tensors = (*batches.leaves(batch).values(), *rows.values())
        columns_BS = torch.stack([column for own in tensors for column in _statistics(own, count_B)], dim=1)
        if not self._count:
            self._mean, self._square = (columns_BS.new_zeros(columns_BS.shape[1]) for _ in range(2))
        count = self._count + len(columns_BS)
        self._mean += (columns_BS - self._mean).sum(0) / count
        self._square += (columns_BS**2 - self._square).sum(0) / count
        self._count = count
        deviation = (self._square - self._mean**2).clamp(min=0).sqrt()
        scores_B = ((columns_BS - self._mean).abs() / (deviation + 1e-12)).amax(dim=1)
        return [float(score) for score in scores_B.nan_to_num(nan=1e9)]


def prove_some_rows(computer: Computer, samples: Any, count: int = _PROVEN) -> None:
    """Prove the rows of some samples, from the first to the last, of which none is stored.

    Args:
        computer: Runs the frozen part.
        samples: A dataset of (inputs, target) that differ in size, as `of_any_length` gives it.
        count: How many.

    Raises:
        NotCacheable: If a row depends on the other samples of its batch, or on the padding.
        SplitError: If the head is not the model on these rows.
    """
    proof = RowProof(computer)
    chosen = torch.linspace(0, len(samples) - 1, min(count, len(samples)), device="cpu").long().unique().tolist()
    items = [samples[at][0] for at in chosen]
    for group in groups_of_one_size(items):
        inputs, indices = [items[at] for at in group], [chosen[at] for at in group]
        batch = computer.collate(inputs, indices)
        proof.offer(inputs, batch, indices, computer.compute(batch, indices))
    proof.check(is_last=True)


def row_depends_on_batch(name: str, index: int, difference: float, allowed: float) -> NotCacheable:
    """A row that is another one in another batch must not be stored."""
    return NotCacheable(
        what=f"The output of {name!r} depends on the other samples of the batch, on the place in it or on its size.",
        where=f"{name}, sample {index}",
        received=f"relative difference {difference:.1e} between two batches with this sample, allowed {allowed:.0e}",
        do="freeze the layers below it with frostline.freeze(model, through=...), so that BatchNorm uses its running "
        "statistics; a layer that mixes samples must stay trainable; or train with frostline.fit(..., cache=False).",
    )


def _refuses_batch(size: int, error: Exception | None) -> NotCacheable:
    return NotCacheable(
        what=f"The frozen part takes no batch of {size}, so that its rows cannot be proven to be the same in each.",
        where="the proof of rows, on samples that were computed before",
        received=f"{type(error).__name__}: {error}",
        do="let the layers below the frost line take batches of any size (a check of the size can stand in the "
        "training loop); or train with frostline.fit(..., cache=False).",
    )


def row_depends_on_padding(name: str, row: _Row, rows: Sequence[_Row], difference: float) -> NotCacheable:
    """A row that is another one beside a longer sample must not be stored."""
    longest = max(tuple(own.features[name].shape) for own in rows)
    return NotCacheable(
        what=f"The output of {name!r} depends on the padding: beside a longer sample it is another one than alone.",
        where=f"{name}, sample {row.index} of size {tuple(row.features[name].shape)} padded to {longest}",
        received=f"relative difference {difference:.1e} at the places of the sample itself",
        do="give the model an attention mask, and let positions count from the sample's own first place; layers "
        "that mix places without a mask (convolutions, means over all places, BatchNorm in between) see the padding: "
        "pad all samples to one size in the dataset, or train with frostline.fit(..., cache=False).",
    )


def _num_values(row: _Row) -> int:
    return sum(tensor.numel() for tensor in row.features.values())


def _statistics(tensor: Tensor, count: int) -> list[Tensor]:
    """The smallest value, the largest and the mean of every sample, in float64 on the CPU."""
    if tensor.dim() == 0 or len(tensor) != count or tensor.numel() == 0:
        return []
    flat = tensor.reshape(count, -1)
    flat = flat.abs() if flat.is_complex() else flat
    flat = flat if flat.is_floating_point() else flat.float()
    columns = (flat.amin(1), flat.amax(1), flat.mean(1))
    return [column.double().cpu().clamp(-_LARGEST, _LARGEST) for column in columns]  # masks hold -infinity


def _num_bytes(inputs: Any, rows: dict[str, Tensor]) -> int:
    """Bytes of one sample, inputs and features; one at least."""
    own = [*batches.leaves(batches.map_arrays(inputs)).values(), *(tensor[0] for tensor in rows.values())]
    return max(1, sum(tensor.numel() * tensor.element_size() for tensor in own))
