"""Makes plain records of sampled steps: measured several at a time, read from the device on demand.

A sampled step leaves copies of some values behind. An operation costs the same for the copies of one step as for those
of thirty, and most of that is spent on fetching code that the loop has pushed out of the caches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.diagnosis.monitor.gradients import Step, Weights, tables_of
from frostline.diagnosis.monitor.statistics import Owner, Silence, Table, can_die, can_saturate, measure
from frostline.diagnosis.rules.records import LayerSample, StepRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.diagnosis.monitor.hooks import Outputs, Watch

_MOST = 32  # samples that wait to be measured together,
_MAX_WAITING = 2**20  # or as many values: 4 MB
_MAX_ROOMS = 4  # shapes for which memory is kept


class Sample:
    """One sampled step: copies of values, then numbers on the device, then a record.

    Args:
        number: Optimizer steps before it.
        outputs: What the layers gave.
        step: What the optimizer saw and did.
    """

    def __init__(self, number: int, outputs: Outputs, step: Step) -> None:
        self.number = number
        self.loss: float | None = None
        self.copies: tuple[Outputs, Step] | None = (outputs, step)
        self.numbers: _Numbers | None = None
        self.place = 0  # among the samples of the same numbers
        self._input_sums = outputs.input_sums
        self._read: StepRecord | None = None

    def record(self, order: dict[str, int]) -> StepRecord:
        """As plain numbers, layers in this order; it must have been measured."""
        if self._read is None:
            layers = dict(self.numbers.of(self.place)) if self.numbers is not None else {}
            total = layers.pop("", {}).get("gradient_norm")
            ordered = sorted(layers, key=lambda name: order.get(name, len(order)))
            samples = tuple(LayerSample(name, **layers[name]) for name in ordered)
            place, rows = _first_nonfinite(samples, self._input_sums)
            self._read = StepRecord(self.number, None, total, samples, place, rows)
            self.numbers = self._input_sums = None
        return replace(self._read, loss=self.loss)


class Laboratory:
    """Measures samples, several at a time.

    Args:
        watch: Whose layers.
        weights: Of the same model.
    """

    def __init__(self, watch: Watch, weights: Weights) -> None:
        self._weights = weights
        kinds = {entry.layer.name: entry.layer.activation for entry in watch.found}
        self._activations = {name: kind if can_die(kind) or can_saturate(kind) else "" for name, kind in kinds.items()}
        self._silence = Silence()
        self._rooms: dict[Any, Tensor] = {}
        self._waiting: list[Sample] = []
        self._num_values = 0

    def add(self, sample: Sample) -> None:
        """Measure it together with the next ones, in order."""
        self._waiting.append(sample)
        if sample.copies is not None:
            self._num_values += sum(values.numel() for values in sample.copies[0].values.values())
        if len(self._waiting) >= _MOST or self._num_values > _MAX_WAITING:
            self.measure()

    def measure(self) -> None:
        """All that wait."""
        waiting, self._waiting, self._num_values = self._waiting, [], 0
        copies = [sample.copies for sample in waiting if sample.copies is not None]
        if not copies:
            return
        with torch.no_grad():
            tables = tables_of([step for _, step in copies], self._weights)
            tables += self._tables_of_outputs([outputs for outputs, _ in copies])
        numbers = _Numbers(tables)
        for place, sample in enumerate(waiting):
            sample.copies, sample.numbers, sample.place = None, numbers, place

    def _tables_of_outputs(self, outputs: Sequence[Outputs]) -> list[Table]:
        """Outputs of the same shape and activation together."""
        groups: dict[Any, dict[Owner, Tensor]] = {}
        for place, own in enumerate(outputs):
            for name, values in own.values.items():
                key = (self._activations[name], values.shape, values.device, values.dtype)
                groups.setdefault(key, {})[place, name] = values
        return [
            measure(self._stacked([*group.values()]), tuple(group), activation, self._silence)
            for (activation, *_), group in groups.items()
        ]

    def _stacked(self, values: list[Tensor]) -> Tensor:
        """(O, N, U) in memory that is kept: on a CPU, fresh memory costs more than what is done with it."""
        dtype = torch.promote_types(values[0].dtype, torch.float32)
        key = (len(values), values[0].shape, values[0].device, dtype)
        if key not in self._rooms:
            if len(self._rooms) >= _MAX_ROOMS:
                self._rooms.clear()
            self._rooms[key] = torch.empty((len(values), *values[0].shape), dtype=dtype, device=values[0].device)
        torch.cat(values, out=self._rooms[key].view(-1, values[0].shape[1]))
        return self._rooms[key]


class _Numbers:
    """What was measured of some samples at once, read in one go."""

    def __init__(self, tables: list[Table]) -> None:
        self._tables = tables
        self._read: dict[int, dict[str, dict[str, float]]] = {}

    def of(self, place: int) -> dict[str, dict[str, float]]:
        """By layer and field."""
        if self._tables:
            device = self._tables[0].values.device
            flat = [table.values.reshape(-1).to(device, torch.float64) for table in self._tables]
            numbers = iter(torch.cat(flat).tolist())
            for table in self._tables:
                for field in table.fields:
                    for owner, name in table.owners:
                        self._read.setdefault(owner, {}).setdefault(name, {})[field] = next(numbers)
            self._tables = []
        return self._read.get(place, {})


def _first_nonfinite(
    samples: Sequence[LayerSample], input_sums: Tensor | None
) -> tuple[str | None, tuple[int, ...]]:  # fmt: skip
    if input_sums is not None:
        odd = (~input_sums.isfinite()).nonzero().flatten().tolist()
        if odd:
            return "input", tuple(odd[:16])
    for sample in samples:
        if sample.mean is not None and not _is_finite(sample.mean, sample.deviation):
            return sample.layer, ()
    if any(not _is_finite(sample.gradient_norm) for sample in samples):
        return "gradient", ()
    return None, ()


def _is_finite(*values: float | None) -> bool:
    return all(value is None or value - value == 0 for value in values)
