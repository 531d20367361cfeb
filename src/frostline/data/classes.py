"""Classes of two datasets, compared by their names instead of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from frostline.core.errors import DataError, nearest
from frostline.core.inputs import LABEL_KEYS, describe
from frostline.data.subsets import Part

_IGNORED = -100  # torch's own mark for "no label here"


def class_names(dataset: Any) -> list[str] | None:
    """The names of a dataset's classes by their number, or None if it has none.

    They are looked for as `.classes`, `.class_to_idx`, and `.features["label"].names`; and in what it is a part of.

    Raises:
        DataError: If it is joined from parts that number their classes differently.
    """
    parts: Any = getattr(dataset, "datasets", None)
    if isinstance(parts, list):  # torch's ConcatDataset
        return _of_parts([class_names(part) for part in cast("list[Any]", parts)])
    found: Any = getattr(dataset, "classes", None)
    numbered: Any = getattr(dataset, "class_to_idx", None)
    if found is None and isinstance(numbered, dict):
        pairs = sorted((number, name) for name, number in cast("dict[Any, Any]", numbered).items())
        found = [name for _, name in pairs] if [number for number, _ in pairs] == list(range(len(pairs))) else None
    features: Any = getattr(dataset, "features", None)
    if found is None and isinstance(features, Mapping):  # of Hugging Face's datasets
        held: Any = next((features[key] for key in LABEL_KEYS if key in features), None)
        found = getattr(held, "names", None)
    if found is None and hasattr(dataset, "dataset"):  # torch's Subset
        return class_names(dataset.dataset)
    if not isinstance(found, (tuple, list)) or not all(isinstance(name, str) for name in cast("list[Any]", found)):
        return None
    return list(cast("list[str]", found))


def _of_parts(names: list[list[str] | None]) -> list[str] | None:
    known = [one for one in names if one is not None]
    longest = max(known, key=len, default=None)
    odd = next((one for one in known if longest is not None and one != longest[: len(one)]), None)
    if odd is not None and longest is not None:
        raise DataError(
            what="The parts of a joined dataset number their classes differently.", where="ConcatDataset",
            received=f"classes {', '.join(longest[:8])} in one, {', '.join(odd[:8])} in another",
            do="number them alike first: ConcatDataset([first, frostline.data.with_classes_of(first, second)]), "
            "where first has all classes.",
        )  # fmt: skip
    return longest if len(known) == len(names) else None


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
        return self._with_number(self.dataset[index])

    def _from_source(self, source: Any, index: int) -> Any:
        return self._with_number(super()._from_source(source, index))

    def _with_number(self, item: Any) -> Any:
        if isinstance(item, dict):
            return {key: self._renumbered(value) if key in LABEL_KEYS else value for key, value in item.items()}
        inputs, target = item
        return inputs, self._renumbered(target)

    def _target(self, index: int) -> Any:
        return self._renumbered(self.dataset.target(index))

    def _renumbered(self, target: Any) -> int:
        try:
            label = int(target)
        except (TypeError, ValueError, RuntimeError):
            label = None
        if label == _IGNORED:
            return _IGNORED
        if label is None or not 0 <= label < len(self._numbers):
            raise DataError(
                what="A label is no number of a class, so that it cannot be mapped by its name.", where="val",
                received=describe(target) if label is None else f"label {label}, of {len(self._numbers)} classes",
                do="return a class index from the dataset, or number the classes of both datasets alike.",
            )  # fmt: skip
        return self._numbers[label]
