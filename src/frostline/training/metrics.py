"""Metrics of a validation, computed once over the whole set, and labels that do not count.

Legend: B batch, N the whole set, C classes.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.core.errors import DataError
from frostline.core.inputs import describe
from frostline.training.losses import IGNORED, as_labels, is_cross_entropy, is_one_hot
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


def make_metrics(
    metric: str | Metric | Sequence[str] | Mapping[str, str | Metric] | None, loss: Any
) -> dict[str, str | Metric]:
    """The metrics of a validation by name; the first one chooses the best epoch. Accuracy for cross entropy by default.

    Raises:
        DataError: If one is neither a known name nor a callable.
    """
    if metric is None:
        return {"accuracy": "accuracy"} if is_cross_entropy(loss) else {}
    if isinstance(metric, (Mapping, nn.ModuleDict)):  # torchmetrics' MetricCollection is a ModuleDict
        given: dict[str, str | Metric] = dict(cast("Mapping[str, str | Metric]", metric).items())
    elif isinstance(metric, (list, tuple)):
        given = {str(one): one for one in cast("Sequence[str]", metric)}
    else:
        given = {metric if isinstance(metric, str) else "metric": cast("str | Metric", metric)}
    for name, one in given.items():
        if not (_is_known(one) if isinstance(one, str) else callable(one)):
            raise DataError(
                what=f"The metric {name!r} is not usable.", where="fit(metric=...)", received=repr(one),
                do=f"use a name ({', '.join(map(repr, _NAMES))}), a callable(output, target) -> "
                "number, higher is better, a list of names, or a mapping of several; None takes accuracy for cross "
                "entropy.",
            )  # fmt: skip
    return given


def make_collector(metric: str | Metric, ignored: int | None = None) -> Collector:
    """What gathers the batches of one validation for a metric; a metric by name leaves the ignored label out."""
    ignored = IGNORED if ignored is None else ignored
    if not isinstance(metric, str):
        return Gathered(metric)
    if metric == "auroc":
        return Gathered(partial(auroc, ignored=ignored), pick=output_of)
    if metric == "r2":
        return Gathered(r2, pick=output_of)
    top = _TOP.fullmatch(metric)
    return TopK(int(top[1]), ignored) if top else Predictions(_BY_NAME[metric], ignored)


def check_metric(metric: str, output: Any, target: Any, ignored: int | None = None) -> None:
    """Raise if a metric by name cannot take these outputs and targets; over a few samples it need not have a value.

    Args:
        metric: A name that `make_metrics` has taken.
        output: Of the model, for a few samples.
        target: Of these samples.
        ignored: The label that does not count; None: torch's own, -100.

    Raises:
        DataError: If it cannot.
    """
    if metric == "r2":
        _columns(output_of(output), target)
    elif metric == "auroc":
        _questions(output_of(output), target, IGNORED if ignored is None else ignored)
    else:
        make_collector(metric, ignored).add(output, target)


def check_whole_set(metric: str, target: Tensor, ignored: int = IGNORED) -> None:
    """Raise if a metric by name has no value whatever the outputs are.

    Args:
        metric: A name that `make_metrics` has taken.
        target: All targets: (N,), or more axes for several numbers a sample.
        ignored: The label that does not count.

    Raises:
        DataError: If AUROC has one class only, or all targets of R2 are the same.
    """
    if metric == "auroc" and target.dim() == 1 and len((known := target[target != ignored]).unique()) < 2:
        raise _one_class(f"{len(known)} labels, all of them {known[0]}" if len(known) else "no label that counts")
    if metric == "r2" and bool((target == target[:1]).all()):
        raise _constant_targets(target)


def _is_known(name: str) -> bool:
    return name in _NAMES or _TOP.fullmatch(name) is not None


def as_classes(output: Any, target: Any, ignored: int) -> tuple[Tensor, Tensor, Tensor]:
    """(logits, true classes, which of these count) of one batch: (B, C, ...), (B, ...) and (B, ...)."""
    logits = output_of(output)
    labels = as_labels(logits, target, ignored=ignored, where="fit(metric=...)")
    true = labels.argmax(dim=1) if labels.is_floating_point() else labels
    return logits, true, true != ignored


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
        logits, true, counts = as_classes(output, target, self._ignored)
        self._pairs.append((logits.argmax(dim=1)[counts].cpu(), true[counts].cpu()))

    def result(self) -> float:
        """The metric over everything that was taken."""
        predicted, true = (torch.cat([pair[at] for pair in self._pairs]) for at in (0, 1))
        if not len(true):
            raise _none_counts(self._ignored)
        return self._compute(predicted, true)


class TopK:
    """Share of the labels that are among the k largest outputs.

    Args:
        k: 1 is accuracy.
        ignored: The label that does not count.
    """

    def __init__(self, k: int, ignored: int = IGNORED) -> None:
        self._k, self._ignored = k, ignored
        self._hits, self._count = 0, 0

    def add(self, output: Any, target: Any) -> None:
        """Take a batch."""
        logits, true, counts = as_classes(output, target, self._ignored)
        if logits.shape[1] < self._k:
            raise DataError(
                what=f"The metric top{self._k} needs more classes.", where="fit(metric=...)",
                received=f"{logits.shape[1]} classes",
                do=f"use top{logits.shape[1] - 1}, or accuracy." if logits.shape[1] > 2 else "use accuracy.",
            )  # fmt: skip
        is_hit = (logits.topk(self._k, dim=1).indices == true.unsqueeze(1)).any(dim=1)
        self._hits += int((is_hit & counts).sum())
        self._count += int(counts.sum())

    def result(self) -> float:
        """The share over everything that was taken."""
        if not self._count:
            raise _none_counts(self._ignored)
        return self._hits / self._count


# A mean over batches is not the metric of the set: F1, AUROC and R2 are not averages, and the last batch is short. So
# outputs are kept, and the metric is computed once.
class Gathered:
    """Whole outputs and targets on the CPU, for a metric of the caller's own.

    Args:
        metric: callable(output, target) -> number, called once.
        pick: callable(output) -> the part of it that is kept; None keeps it whole.
    """

    def __init__(self, metric: Metric, pick: Callable[[Any], Tensor] | None = None) -> None:
        self._metric, self._pick = metric, pick
        self._outputs: list[Any] = []
        self._targets: list[Any] = []

    def add(self, output: Any, target: Any) -> None:
        """Take a batch."""
        output = output if self._pick is None else self._pick(output)
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


# Computed here instead of by scikit-learn, whose import takes a second; the tests compare the two. A class without
# positive or negative samples has no area, and is left out of the mean.
def auroc(output_NC: Tensor, target: Tensor, ignored: int = IGNORED) -> float:
    """Area under the ROC curve: each class against all others, then the mean over those that have both.

    Args:
        output_NC: Logits of classes; or one logit (N, 1) or (N, L) for each yes-or-no question.
        target: (N,) classes; or 0 and 1 in the shape of the output.
        ignored: The label that does not count.

    Raises:
        DataError: If no class has both positive and negative samples.

    References:
        Fawcett 2006, An introduction to ROC analysis, section 8 (the Wilcoxon statistic).
    """
    scores_NC, truth_NC = _questions(output_NC, target, ignored)
    areas = [_area(scores_NC[:, at], truth_NC[:, at]) for at in range(scores_NC.shape[1])]
    known = [area for area in areas if area is not None]
    if not known:
        raise _one_class(f"{len(truth_NC)} samples, all of one class" if len(truth_NC) else "no label that counts")
    return sum(known) / len(known)


def _questions(output_NC: Tensor, target: Any, ignored: int) -> tuple[Tensor, Tensor]:
    """Scores and truth (N, C) of each class, or of each yes-or-no question."""
    scores_NC, target = output_NC.double(), torch.as_tensor(target)
    questions = 1 if scores_NC.dim() == 1 else scores_NC.shape[1]
    if target.numel() == scores_NC.numel() and (questions == 1 or not is_one_hot(target)):
        scores_NC, truth_NC = scores_NC.reshape(-1, questions), target.reshape(-1, questions) > 0.5
    else:
        logits, true, counts = as_classes(output_NC, target, ignored)
        scores_NC = logits.double().softmax(dim=1).movedim(1, -1)[counts]
        truth_NC = F.one_hot(true[counts], scores_NC.shape[1]).bool()
    return scores_NC, truth_NC


def _area(scores_N: Tensor, is_true_N: Tensor) -> float | None:
    """The share of pairs (positive, negative) that are in the right order, half of it for equal scores."""
    positives = int(is_true_N.sum())
    negatives = len(is_true_N) - positives
    if not positives or not negatives:
        return None
    _, place, counts = scores_N.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[place]
    return float((ranks[is_true_N].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def r2(output: Tensor, target: Tensor) -> float:
    """The coefficient of determination: 1 minus the squared error as a share of that of the mean, over all columns.

    Columns whose targets are all the same are left out.

    Raises:
        DataError: If outputs and targets have other sizes, or all targets of a column are the same in each.
    """
    answers_ND, truth_ND = _columns(output, target)
    total_D = ((truth_ND - truth_ND.mean(dim=0)) ** 2).sum(dim=0)
    if not bool((total_D > 0).any()):
        raise _constant_targets(target)
    share_D = ((truth_ND - answers_ND) ** 2).sum(dim=0)[total_D > 0] / total_D[total_D > 0]
    return float(1 - share_D.mean())


def _columns(output: Tensor, target: Any) -> tuple[Tensor, Tensor]:
    """Outputs and targets (N, D)."""
    if output.numel() != torch.as_tensor(target).numel():
        raise DataError(
            what="R2 compares one number with one number.", where="fit(metric='r2')",
            received=f"outputs {describe(output)}, targets {describe(target)}",
            do="give the targets the shape of the outputs, or use another metric.",
        )  # fmt: skip
    answers_ND = output.double().reshape(len(output), -1)
    return answers_ND, torch.as_tensor(target).double().reshape(answers_ND.shape)


def _no_value(metric: str, needs: str, where: str, received: str, do: str) -> DataError:
    """The error of a metric that has no value on any outputs for these targets."""
    return DataError(what=f"{metric} needs validation {needs}.", where=f"fit(metric={where})", received=received, do=do)


def _one_class(received: str) -> DataError:
    return _no_value("AUROC", "samples of two classes", "'auroc'", received,
                     "pass validation data with samples of several classes, or use metric='accuracy'.")  # fmt: skip


def _constant_targets(target: Any) -> DataError:
    return _no_value("R2", "targets that differ", "'r2'", f"{describe(target)}, the same for all samples",
                     "pass validation data whose targets differ, or leave the metric out: the validation loss then "
                     "chooses the best epoch.")  # fmt: skip


def _none_counts(ignored: int) -> DataError:
    return _no_value("A metric", "labels that count", "...", f"labels that are all {ignored}, which the metric ignores",
                     "check the labels of the validation data, or pass a metric that is callable(output, target) -> "
                     "number.")  # fmt: skip


_BY_NAME: dict[str, Callable[[Tensor, Tensor], float]] = {"accuracy": accuracy, "f1": macro_f1}
_NAMES = (*_BY_NAME, "top5", "auroc", "r2")
_TOP = re.compile(r"top([1-9][0-9]{0,5})")


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
