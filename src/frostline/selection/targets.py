"""Targets of a task as scores take them: what kind they are, how they are folded, how a prediction is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.core.errors import DataError
from frostline.core.inputs import describe

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
_NO_LABEL = -100  # the label that cross entropy leaves out
# With a majority class of more than so many times the share of an even one, the mean over classes is the fairer score.
_IMBALANCED = 1.5


@dataclass(frozen=True)
class Targets:
    """Targets of N samples.

    Attributes:
        kind: `"classes"`, `"labels"` (several of them may hold at once) or `"numbers"`.
        values: (N,) class indices from 0, or (N, K) float64 labels or numbers.
        folds: (N,) the fold in which each sample is held out.
        metric: `"accuracy"`, `"balanced accuracy"`, `"mean F1"` or `"R2"`.
        baseline: What a constant prediction scores.
        names: The class index that each number of `values` stands for.
        notes: What was left out or is rare.
    """

    kind: str
    values: NDArray[Any]
    folds: NDArray[np.int64]
    metric: str
    baseline: float
    names: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """Classes, or columns of labels or numbers."""
        return len(self.names) if self.kind == "classes" else self.values.shape[1]

    def columns(self) -> NDArray[np.float64]:
        """(N, K) float64: classes as zeros and ones."""
        if self.kind == "classes":
            return np.eye(self.num_classes)[self.values]
        return self.values

    def score(self, predicted: NDArray[Any], rows: NDArray[np.int64] | slice = slice(None)) -> float:
        """The score of predictions (class indices, or (N, K)), over some rows, which may repeat."""
        true, guessed = self.values[rows], predicted[rows]
        if self.kind == "classes":
            hits = (true == guessed).astype(np.float64)
            if self.metric == "accuracy":
                return float(hits.mean())
            counts = np.bincount(true, minlength=self.num_classes)
            right = np.bincount(true, weights=hits, minlength=self.num_classes)
            return float((right[counts > 0] / counts[counts > 0]).mean())
        if self.kind == "labels":
            both, either = (true * guessed).sum(0), (true + guessed).sum(0)
            return float((2 * both[either > 0] / either[either > 0]).mean()) if either.any() else 0.0
        residual, total = ((true - guessed) ** 2).sum(0), ((true - true.mean(0)) ** 2).sum(0)
        varies = total > 0
        return float((1 - residual[varies] / total[varies]).mean()) if varies.any() else 0.0


def targets_from(given: Any, seed: int = 0) -> Targets:
    """Find out what the targets are.

    Args:
        given: The targets of all samples: whole numbers (N,) are classes, columns of zeros and ones (N, K) are labels,
            other numbers (N,) or (N, K) are a regression.
        seed: Of the folds.

    Raises:
        DataError: If there is one class or value only, too few samples for the folds, or a value is not finite.
    """
    values = _as_array(given)
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
        raise DataError(
            what="Some targets are not finite.", where=f"samples {', '.join(map(str, bad[:8]))} of the sample",
            received=f"NaN or infinity in {len(bad)} of {len(values)} targets",
            do="remove these samples, or correct their targets.",
        )  # fmt: skip
    is_whole = not np.issubdtype(values.dtype, np.floating)
    if values.ndim == 1 and is_whole:
        return _classes(values, seed)
    columns = values.reshape(len(values), -1).astype(np.float64)
    is_labels = values.ndim == 2 and values.shape[1] > 1 and bool(np.isin(columns, (0.0, 1.0)).all())
    if is_labels and not (columns.sum(1) == 1).all():
        return _labels(columns, seed)
    if is_labels:  # one column of each row is 1: classes, written as columns
        return _classes(columns.argmax(1), seed)
    return _numbers(columns, seed)


def _as_array(given: Any) -> NDArray[Any]:
    if not isinstance(given, Tensor) or given.dim() not in (1, 2):
        raise DataError(
            what="These targets cannot be scored by a linear probe.", where="choose_depth(train)",
            received=describe(given),
            do="use class indices (N,), labels of zeros and ones (N, K) or numbers (N,) or (N, K) as targets; for "
            "targets at every place of an image or text, compare lines by frostline.fit(..., freeze=LAYER).",
        )  # fmt: skip
    values = given.detach().cpu()
    if values.dtype == torch.bool:
        values = values.long()
    if values.dim() == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return (values.double() if values.is_floating_point() else values.long()).numpy()


def _classes(values: NDArray[Any], seed: int) -> Targets:
    if (unlabelled := np.flatnonzero(values == _NO_LABEL)).size:
        raise DataError(
            what="Some samples have no label (-100), and cannot be scored.", where="choose_depth(train)",
            received=f"{len(unlabelled)} of {len(values)} samples",
            do="pass the labelled samples alone: torch.utils.data.Subset(train, indices); then fit(freeze=LAYER).",
        )  # fmt: skip
    names, own, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise DataError(
            what="All samples have the same class: there is nothing to separate.", where="choose_depth(train)",
            received=f"class {names[0]} for {len(values)} samples",
            do="pass samples of two classes or more; check how the targets are made.",
        )  # fmt: skip
    _check_enough(len(values), len(names))
    rare = names[counts < FOLDS]
    notes = (f"{len(rare)} of {len(names)} classes have fewer than {FOLDS} samples: their scores are rough",)
    share = counts.max() / len(values)
    is_balanced = share * len(names) <= _IMBALANCED
    return Targets(
        "classes", own.astype(np.int64), _stratified(own, seed), "accuracy" if is_balanced else "balanced accuracy",
        float(share) if is_balanced else 1 / len(names), tuple(int(name) for name in names), notes if len(rare) else (),
    )  # fmt: skip


def _labels(columns: NDArray[np.float64], seed: int) -> Targets:
    shares = columns.mean(0)
    if not ((shares > 0) & (shares < 1)).any():
        raise DataError(
            what="Every label has the same value for all samples: there is nothing to separate.",
            where="choose_depth(train)", received=f"{columns.shape[1]} labels, {len(columns)} samples",
            do="pass samples with and without each label; check how the targets are made.",
        )  # fmt: skip
    _check_enough(len(columns), 2)
    always = [2 * share / (1 + share) for share in shares if share > 0]  # F1 of "yes" for all
    _, combined = np.unique(columns, axis=0, return_inverse=True)
    return Targets("labels", columns, _stratified(combined.reshape(-1), seed), "mean F1", float(np.mean(always)))


def _numbers(columns: NDArray[np.float64], seed: int) -> Targets:
    if not (columns.std(0) > 0).any():
        raise DataError(
            what="All samples have the same target: there is nothing to predict.", where="choose_depth(train)",
            received=f"{columns[0, 0]:g} for {len(columns)} samples",
            do="pass samples whose targets differ; check how the targets are made.",
        )  # fmt: skip
    _check_enough(len(columns), 2)
    ranks = np.argsort(np.argsort(columns[:, 0], kind="stable"), kind="stable") * 10 // len(columns)  # tenths
    return Targets("numbers", columns, _stratified(ranks, seed), "R2", 0.0)


def _check_enough(num_samples: int, num_classes: int) -> None:
    if num_samples < num_classes * FOLDS:
        raise DataError(
            what="There are too few samples to hold some of each class out.", where="choose_depth(train)",
            received=f"{num_samples} samples, {num_classes} classes, {FOLDS} folds",
            do=f"pass {num_classes * FOLDS} samples or more, or a larger samples=; with so few, replace the output "
            "layer and freeze everything else (frostline.replace_head, frostline.freeze). Whole numbers are classes: "
            "targets to predict as numbers are passed as floats.",
        )  # fmt: skip


def _stratified(groups: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """(N,) folds; the samples of each group are dealt out to the folds in turn, in a random order."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(groups))
    order = order[np.argsort(groups[order], kind="stable")]
    folds = np.empty(len(groups), np.int64)
    folds[order] = np.arange(len(groups)) % FOLDS
    return folds


def sample_rows(num_samples: int, most: int, labels: NDArray[Any] | None, seed: int) -> NDArray[np.int64]:
    """Positions of at most so many samples, in order; of each class the same share."""
    random = np.random.default_rng(seed)
    if num_samples <= most:
        return np.arange(num_samples)
    if labels is None:
        return np.sort(random.choice(num_samples, most, replace=False))
    order = random.permutation(num_samples)
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[np.unique(np.linspace(0, num_samples - 1, most).round().astype(np.int64))])
