"""Metrics of a validation, computed once over the whole set, and labels that do not count.

Legend: B batch, N the whole set, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from frostline.core.errors import DataError, nearest
from frostline.core.inputs import describe
from frostline.training.losses import IGNORED, as_labels, is_cross_entropy
from frostline.training.outputs import fields_of, output_of

Metric = Callable[[Any, Any], Any]


class Collector(Protocol):
    """Takes the batches of one validation, and gives one number for all of them."""

    def add(self, output: Any, target: Any) -> None:
        """Take a batch."""
        ...

    def result(self) -> float:
        """The metric over everything that was taken."""
        ...


def make_metrics(metric: str | Metric | Mapping[str, str | Metric] | None, loss: Any) -> dict[str, str | Metric]:
    """The metrics of a validation by name; the first one chooses the best epoch. Accuracy for cross entropy by default.

    Raises:
        DataError: If one is neither a known name nor a callable.
    """
    if metric is None:
        return {"accuracy": "accuracy"} if is_cross_entropy(loss) else {}
    if isinstance(metric, Mapping):
        given = dict(cast("Mapping[str, str | Metric]", metric))
    else:
        given = {metric if isinstance(metric, str) else "metric": metric}
    for name, one in given.items():
        if not callable(one) and str(one) not in _BY_NAME:
            raise DataError(
                what=f"The metric {name!r} is not usable.", where="fit(metric=...)", received=repr(one),
                do=f"use a name ({nearest(str(one), _BY_NAME)}), a callable(output, target) -> number, higher is "
                "better, or a mapping of several; None takes accuracy for cross entropy.",
            )  # fmt: skip
    return given


def make_collector(metric: str | Metric, ignored: int | None = None) -> Collector:
    """What gathers the batches of one validation for a metric; a metric by name leaves the ignored label out."""
    return (
        Predictions(_BY_NAME[metric], IGNORED if ignored is None else ignored)
        if isinstance(metric, str)
        else Gathered(metric)
    )


class Predictions:
    """Predicted and true classes of every label that counts: all that a metric by name needs.

    Args:
        compute: callable(predicted (N,), true (N,)) -> number.
        ignored: The label that does not count.
    """

    def __init__(self, compute: Callable[[Tensor, Tensor], float], ignored: int = IGNORED) -> None:
        self._compute, self._ignored = compute, ignored
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def add(self, output: Any, target: Any) -> None:
        """Take a batch; ignored labels are left out."""
        logits = output_of(output)
        labels = as_labels(logits, target, ignored=self._ignored, where="fit(metric=...)")
        true = labels.argmax(dim=1) if labels.is_floating_point() else labels
        predicted = logits.argmax(dim=1)
        counts = true != self._ignored
        self._pairs.append((predicted[counts].cpu(), true[counts].cpu()))

    def result(self) -> float:
        """The metric over everything that was taken; NaN where no label counts."""
        predicted, true = (torch.cat([pair[at] for pair in self._pairs]) for at in (0, 1))
        return self._compute(predicted, true) if len(true) else float("nan")


class Gathered:
    """Whole outputs and targets on the CPU, for a metric of the caller's own.

    Args:
        metric: callable(output, target) -> number, called once.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._outputs: list[Any] = []
        self._targets: list[Any] = []

    def add(self, output: Any, target: Any) -> None:
        """Take a batch."""
        self._outputs.append(_mapped(output, lambda tensor: tensor.detach().cpu()))
        self._targets.append(_mapped(target, lambda tensor: tensor.detach().cpu()))

    def result(self) -> float:
        """The metric over everything that was taken."""
        value = self._metric(_joined(self._outputs), _joined(self._targets))
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                what="The metric is not one number.", where="fit(metric=...)", received=describe(value),
                do="return one number from the metric, higher is better, or pass a mapping of several metrics.",
            ) from error  # fmt: skip


def accuracy(predicted_N: Tensor, true_N: Tensor) -> float:
    """Share of the labels that were predicted."""
    return float((predicted_N == true_N).double().mean())


def macro_f1(predicted_N: Tensor, true_N: Tensor) -> float:
    """Mean of the F1 scores of the classes that were predicted or are there."""
    scores: list[float] = []
    for label in torch.cat([predicted_N, true_N]).unique():
        hits = float(((predicted_N == label) & (true_N == label)).sum())
        scores.append(2 * hits / float((predicted_N == label).sum() + (true_N == label).sum()))
    return sum(scores) / len(scores)


_BY_NAME: dict[str, Callable[[Tensor, Tensor], float]] = {"accuracy": accuracy, "f1": macro_f1}


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    return _combined([value], lambda tensors: function(tensors[0]))


def _joined(values: list[Any]) -> Any:
    return _combined(values, _stacked)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Along the batch axis; numbers of a batch become one entry each."""
    if not tensors[0].dim():
        return torch.stack(list(tensors))
    shapes = {tensor.shape[1:] for tensor in tensors}
    if len(shapes) > 1:
        raise DataError(
            what="The outputs of the validation batches do not fit together, so a metric over all cannot be computed.",
            where="fit(metric=...)", received=" and ".join(describe(tensor) for tensor in tensors[:2]),
            do="pad the samples to one length in the dataset, or use metric='accuracy', which needs no whole outputs.",
        )  # fmt: skip
    return torch.cat(list(tensors))


def _combined(values: list[Any], function: Callable[[Sequence[Tensor]], Tensor]) -> Any:
    """One value of the same type as all of these, their tensors combined; what is no tensor comes from the first."""
    first = values[0]
    if isinstance(first, Tensor):
        return function(values)
    if isinstance(first, Mapping):
        mapping = cast("Mapping[Any, Any]", first)
        entries = {key: _combined([value[key] for value in values], function) for key in mapping}
        if type(first) is dict:
            return entries
        made: Any = copy.copy(first)
        for key, entry in entries.items():
            made[key] = entry
        return made
    if isinstance(first, list):
        listed = cast("list[Any]", first)
        are_parts = all(isinstance(entry, Tensor) for entry in listed)
        if not are_parts or any(len(value) != len(listed) for value in values):
            return [entry for value in values for entry in value]  # one entry a sample, such as texts
    if isinstance(first, (tuple, list)):
        parts = [_combined(list(several), function) for several in zip(*values, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*parts)
        return parts if isinstance(first, list) else tuple(parts)
    names = fields_of(first)
    if names:
        made = copy.copy(first)
        for name in names:
            object.__setattr__(made, name, _combined([getattr(value, name) for value in values], function))
        return made
    if isinstance(first, (int, float)) and any(value != first for value in values):
        return torch.tensor(values)  # one entry a batch, as for tensors of one number
    return first
