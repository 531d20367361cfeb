"""Cross entropy with weights of the classes and label smoothing, for `fit` and for its command."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching import CachedDataset
from frostline.core.arguments import as_items, as_number, as_numbers
from frostline.core.errors import DataError
from frostline.core.inputs import check_map_style, describe
from frostline.core.restore import kept_generators
from frostline.data import class_names, labels_of
from frostline.recipes.viewed_data import without_views
from frostline.training import CrossEntropy, make_loss, make_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.training import DatasetBatches

_COMPARED = 32  # items whose targets are compared with the labels that a dataset keeps


def losses_of(
    train: Any, loss: Any, metric: Any, class_weights: Any, label_smoothing: Any,
    batches_of: Callable[[Any], DatasetBatches],
) -> tuple[Any, Any, Any]:  # fmt: skip
    """(the loss as it was asked for, with weights and smoothing; as it is called; the metrics by name)."""
    loss = weighted_loss(train, class_weights, label_smoothing, loss=loss, batches_of=batches_of)
    return loss, make_loss(loss), make_metrics(metric, loss)


def weighted_loss(
    dataset: Any, class_weights: Any, label_smoothing: Any, *, loss: Any = "cross_entropy", is_command: bool = False,
    batches_of: Callable[[Any], DatasetBatches] | None = None,
) -> Any:  # fmt: skip
    """Cross entropy, weighted and smoothed as the options say; without any the loss as it is.

    Args:
        dataset: The training data.
        class_weights: None, `balanced`, or a number for each class: with commas in a command, else in a sequence.
        label_smoothing: The share of probability that is spread over all classes.
        loss: As `fit` takes it.
        is_command: The options are those of `frostline fit`.
        batches_of: Gives the batches of a dataset, to read the targets of its items; None takes the labels that the
            dataset keeps.

    Raises:
        DataError: If the loss is not cross entropy by name, there is not one positive weight for each class, or the
            smoothing is not a share below 1.
    """
    places = ("--class-weights", "--label-smoothing") if is_command else ("class_weights", "label_smoothing")
    smoothing = as_number("frostline fit" if is_command else "fit", places[1], label_smoothing)
    if not 0 <= smoothing < 1:
        raise DataError(
            what="Label smoothing is a share of probability.", where=_where(places[1]), received=f"{smoothing:g}",
            do="pass a number of 0 or more and below 1, such as 0.1.",
        )  # fmt: skip
    if class_weights is None and not smoothing:
        return loss
    if not isinstance(loss, str) or loss != "cross_entropy":
        raise DataError(
            what="Only cross entropy by name takes weights of classes and label smoothing.",
            where=_where(places[0] if class_weights is not None else places[1]),
            received=f"loss={loss!r}" if isinstance(loss, str) else f"loss=a {type(loss).__name__}",
            do="pass loss='cross_entropy'; or give them to the loss itself: "
            "loss=torch.nn.CrossEntropyLoss(weight, label_smoothing=0.1).",
        )  # fmt: skip
    weights = None if class_weights is None else class_weights_of(
        without_views(dataset), class_weights, places[0], batches_of
    )  # fmt: skip
    return CrossEntropy(weights, smoothing)


def class_weights_of(
    dataset: Any, given: Any, place: str = "--class-weights",
    batches_of: Callable[[Any], DatasetBatches] | None = None,
) -> Tensor:  # fmt: skip
    """(C,) float32 of mean 1 over the samples if balanced by their counts, else as given."""
    classes = tuple(class_names(dataset) or ())
    if isinstance(given, str) and given == "balanced":
        return _balanced(_labels(dataset, batches_of), dataset, classes, place)
    is_command = place.startswith("--")
    if is_command:
        weights = as_numbers(place, given, f"balanced, or {_ones(classes)}")
    else:
        listed: Any = given.tolist() if isinstance(given, Tensor) and given.dim() == 1 else given
        weights = [as_number("fit", place, weight) for weight in as_items("fit", place, listed)]
    num_classes = len(classes) if is_command or classes else len(weights)
    if not weights or len(weights) != num_classes or not all(0 < weight < math.inf for weight in weights):
        example = _ones(classes) if is_command else "[1.0, 2.0, ...]"
        raise DataError(
            what="Every class needs one weight above 0.", where=_where(place),
            received=f"{given if is_command else weights} for {num_classes} classes: {', '.join(classes[:10])}",
            do=f"give one for each, in this order: {place}{' ' if is_command else '='}{example}; or "
            f"{place}{' balanced' if is_command else '=' + repr('balanced')}.",
        )  # fmt: skip
    return torch.tensor(weights)


def _labels(dataset: Any, batches_of: Callable[[Any], DatasetBatches] | None) -> Tensor | None:
    """(N,) the labels that are the targets of the items: those that the dataset keeps, unless items have others."""
    kept = labels_of(dataset)
    if batches_of is None or isinstance(dataset, CachedDataset):
        return kept
    check_map_style(dataset)
    plain, count = batches_of(dataset), len(dataset)
    with kept_generators():
        if kept is not None:
            chosen = torch.linspace(0, count - 1, min(count, _COMPARED), device="cpu").long()
            if torch.equal(_whole(plain.batch(chosen.tolist())[1]), kept[chosen]):
                return kept
        sys.stderr.write(f"class_weights: the labels of {count:,} samples are read from their items.\n")
        return torch.cat([_whole(target) for _, target in plain])


def _whole(target: Any) -> Tensor:
    """(B,) the class of each sample."""
    is_whole = isinstance(target, Tensor) and not target.is_floating_point() and target.dtype != torch.bool
    if not is_whole or target.dim() != 1 + (target.dim() == 2 and target.shape[1] == 1):
        raise DataError(
            what="Classes are balanced by the labels of the samples, one for each.", where="fit(class_weights=...)",
            received=f"targets of a batch: {describe(target)}",
            do="return an integer class index as the target, int(label); or give a number per class: "
            "class_weights=[1.0, 2.0].",
        )  # fmt: skip
    return target.flatten().to("cpu", torch.int64)


def _balanced(labels: Tensor | None, dataset: Any, classes: tuple[str, ...], place: str) -> Tensor:
    """Weights by which each class that has samples counts as much as another."""
    known = labels[labels >= 0] if labels is not None else None
    if known is None or not len(known):
        raise DataError(
            what="The labels of this dataset are not known before it is read.", where=f"{_where(place)}, 'balanced'",
            received=type(dataset).__name__,
            do=f"give a number per class: {place}{' ' + _ones(classes) if place.startswith('--') else '=[1.0, 2.0]'}.",
        )  # fmt: skip
    num_classes = max(len(classes), int(known.max()) + 1)
    counts = torch.bincount(known, minlength=num_classes).clamp(min=1)
    return (len(known) / (num_classes * counts)).float()


def _where(place: str) -> str:
    return place if place.startswith("--") else f"fit({place}=...)"


def _ones(classes: tuple[str, ...]) -> str:
    return ",".join("1" for _ in classes)
