"""The two stages of reading an item, where they are known: what is the same each time, and what follows.

A dataset may offer `source(i)`, which is not random and takes long (decoding), and `from_source(source, i)`, which
makes the item of it. Several views of a sample then share one source.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

Stages = tuple[Callable[[int], Any], Callable[[Any, int], Any]]  # (source, from_source)

# Classes whose `__getitem__` is known to load, and then to transform: by module and name, so that none is imported.
_FOLDER, _SUBSET = ("torchvision.datasets.folder", "DatasetFolder"), ("torch.utils.data.dataset", "Subset")


def stages_of(dataset: Any) -> Stages | None:
    """The two stages of `dataset[i]`, or None where they are not known.

    Those that a dataset offers count only if the class that defines them defines `__getitem__`, too: a class that
    inherits them may do something else in between.

    Args:
        dataset: A map-style dataset.
    """
    owner = next((kind for kind in type(dataset).__mro__ if "__getitem__" in vars(kind)), object)
    place = (owner.__module__, owner.__name__)
    if place == _FOLDER:
        return partial(_loaded, dataset), partial(_transformed, dataset)
    if place == _SUBSET:
        inner = stages_of(dataset.dataset)
        return (partial(_of_part, dataset, inner[0]), partial(_from_part, dataset, inner[1])) if inner else None
    if {"from_source", "_from_source"}.isdisjoint(vars(owner)):
        return None
    source, from_source = getattr(dataset, "source", None), getattr(dataset, "from_source", None)
    return (source, from_source) if callable(source) and callable(from_source) else None


def _loaded(dataset: Any, index: int) -> Any:
    return dataset.loader(dataset.samples[index][0])


def _transformed(dataset: Any, sample: Any, index: int) -> Any:
    target = dataset.samples[index][1]
    sample = sample if dataset.transform is None else dataset.transform(sample)
    return sample, target if dataset.target_transform is None else dataset.target_transform(target)


def _of_part(part: Any, source: Callable[[int], Any], index: int) -> Any:
    return source(part.indices[index])


def _from_part(part: Any, from_source: Callable[[Any, int], Any], source: Any, index: int) -> Any:
    return from_source(source, part.indices[index])
