"""How many samples a training and a validation set have, in all and of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.data.classes import class_names
from frostline.data.labels import labels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTED = 12  # classes that are listed one by one; of more, the fewest and the most samples
_NAMED = 5  # classes without samples


@dataclass(frozen=True)
class SampleCounts:
    """Numbers of samples.

    Attributes:
        train: Training samples.
        val: Validation samples; None without validation data.
        train_classes: Training samples by class; empty where labels are not known before they are read.
        val_classes: Validation samples by class, the same classes; empty where they are not known.
    """

    train: int
    val: int | None
    train_classes: Mapping[str, int]
    val_classes: Mapping[str, int]

    def __str__(self) -> str:
        """In one line, with the classes that have no samples."""
        text = f"{self.train:,} training samples"
        text += f", {self.val:,} validation samples" if self.val is not None else ", no validation data"
        if not self.train_classes:
            return text
        text += f"; {len(self.train_classes)} classes: {self._each()}"
        for what, counts in (("training", self.train_classes), ("validation", self.val_classes)):
            if missing := [name for name, count in counts.items() if not count]:
                more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
                text += f"; no {what} samples of {', '.join(missing[:_NAMED])}{more}"
        return text

    def _each(self) -> str:
        if len(self.train_classes) <= _LISTED:
            held = self.val_classes
            return ", ".join(
                f"{name} {count:,}" + (f" + {held[name]:,}" if held else "")
                for name, count in self.train_classes.items()
            )
        parts = [("training", self.train_classes), ("validation", self.val_classes)]
        return ", ".join(
            f"{min(counts.values()):,} to {max(counts.values()):,} {what} samples each"
            for what, counts in parts
            if counts
        )


def sample_counts(train: Any, val: Any = None) -> SampleCounts:
    """Samples of both datasets; nothing is read but labels that a dataset keeps.

    Args:
        train: A map-style dataset.
        val: Another, its classes numbered alike; or None.
    """
    labels = labels_of(train)
    held = labels_of(val) if val is not None else None
    names = class_names(train)
    if labels is None or (names is None and (labels.numel() == 0 or int(labels.max()) >= _most(labels))):
        return SampleCounts(len(train), len(val) if val is not None else None, {}, {})
    known = names if names is not None else [str(label) for label in range(int(labels.max()) + 1)]
    return SampleCounts(
        len(train), len(val) if val is not None else None, _by_class(labels, known),
        _by_class(held, known) if held is not None else {},
    )  # fmt: skip


def _most(labels: Any) -> int:
    """Labels without names count as classes up to here: whole numbers may be something else."""
    return max(2, len(labels) // 2)


def _by_class(labels: Any, names: list[str]) -> dict[str, int]:
    return {name: int((labels == number).sum()) for number, name in enumerate(names)}


def shared_samples(train: Any, val: Any) -> list[int]:
    """Positions of validation samples whose content is that of a training sample, where both have keys of content."""
    if not hasattr(train, "sample_key") or not hasattr(val, "sample_key"):
        return []
    known = {train.sample_key(at) for at in range(len(train))}
    return [at for at in range(len(val)) if val.sample_key(at) in known]


def place_of_sample(dataset: Any, index: int) -> str:
    """The file of a sample, where it has one; else its position."""
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset, index = dataset.dataset, dataset.indices[index]
    paths = getattr(dataset, "paths", None)
    return str(paths[index]) if paths is not None else f"sample {index}"
