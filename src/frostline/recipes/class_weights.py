"""The loss of `frostline fit`: cross entropy with weights of the classes and label smoothing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from frostline.core.arguments import as_number, as_numbers
from frostline.core.errors import DataError
from frostline.data import class_names, labels_of
from frostline.training import CrossEntropy


def weighted_loss(dataset: Any, class_weights: str | None, label_smoothing: float) -> str | CrossEntropy:
    """Cross entropy, weighted and smoothed as the options say.

    Raises:
        DataError: If there is not one positive weight per class, or the smoothing is not a share below 1.
    """
    smoothing = as_number("frostline fit", "--label-smoothing", label_smoothing)
    if not 0 <= smoothing < 1:
        raise DataError(
            what="Label smoothing is a share of probability.", where="--label-smoothing", received=f"{smoothing:g}",
            do="pass a number of 0 or more and below 1, such as 0.1.",
        )  # fmt: skip
    if class_weights is None:
        return CrossEntropy(None, smoothing) if smoothing else "cross_entropy"
    return CrossEntropy(class_weights_of(dataset, class_weights), smoothing)


def class_weights_of(dataset: Any, text: str) -> Tensor:
    """(C,) float32 of mean 1 over the samples if balanced by their counts, else as given."""
    classes, labels = tuple(class_names(dataset) or ()), labels_of(dataset)
    if text == "balanced":
        if labels is None:
            raise DataError(
                what="The labels of this dataset are not known before it is read.", where="--class-weights balanced",
                received=type(dataset).__name__, do=f"give a number per class: --class-weights {_ones(classes)}.",
            )  # fmt: skip
        counts = torch.bincount(labels[labels >= 0], minlength=len(classes)).clamp(min=1)
        return (len(labels) / (len(classes) * counts)).float()
    weights = as_numbers("--class-weights", text, f"balanced, or {_ones(classes)}")
    if len(weights) != len(classes) or not all(0 < weight < math.inf for weight in weights):
        raise DataError(
            what="Every class needs one weight above 0.", where="--class-weights",
            received=f"{text} for {len(classes)} classes: {', '.join(classes[:10])}",
            do=f"give one for each, in this order: --class-weights {_ones(classes)}; or --class-weights balanced.",
        )  # fmt: skip
    return torch.tensor(weights)


def _ones(classes: tuple[str, ...]) -> str:
    return ",".join("1" for _ in classes)
