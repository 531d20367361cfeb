"""Classes of two datasets, compared by their names instead of their numbers."""

from __future__ import annotations

from typing import Any, cast

from frostline.core.errors import DataError, nearest
from frostline.data.subsets import Part


def class_names(dataset: Any) -> list[str] | None:
    """The names of a dataset's classes by their number, or None if it has none."""
    found: Any = getattr(dataset, "classes", None)
    if found is None and hasattr(dataset, "dataset"):  # torch's Subset
        return class_names(dataset.dataset)
    if not isinstance(found, (tuple, list)) or not all(isinstance(name, str) for name in cast("list[Any]", found)):
        return None
    return list(cast("list[str]", found))


def with_classes_of(train: Any, val: Any) -> Any:
    """The validation data, its labels numbered as those of the training data, by the names of the classes.

    Raises:
        DataError: If it has a class that the training data lacks.
    """
    wanted, own = class_names(train), class_names(val)
    if wanted is None or own is None or own == wanted[: len(own)]:
        return val
    unknown = [name for name in own if name not in wanted]
    if unknown:
        raise DataError(
            what=f"The validation data has a class that the training data lacks: {unknown[0]!r}.", where="val",
            received=f"classes {', '.join(own[:8])}",
            do=f"remove or rename it; the training data has {nearest(unknown[0], wanted)}.",
        )  # fmt: skip
    return Renumbered(val, [wanted.index(name) for name in own], tuple(wanted))


class Renumbered(Part):
    """A dataset whose class indices are replaced; everything else is that of the dataset.

    Args:
        dataset: Its targets are class indices.
        numbers: The new index of each class.
        classes: Names of the classes by their new index.
    """

    def __init__(self, dataset: Any, numbers: list[int], classes: tuple[str, ...]) -> None:
        super().__init__(dataset, list(range(len(dataset))))
        self._numbers, self.classes = numbers, classes

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        if isinstance(item, dict):
            return {
                key: self._renumbered(value) if key in ("label", "labels") else value for key, value in item.items()
            }
        inputs, target = item
        return inputs, self._renumbered(target)

    def _target(self, index: int) -> Any:
        return self._renumbered(self.dataset.target(index))

    def _renumbered(self, target: Any) -> int:
        return self._numbers[int(target)]
