"""A part of a dataset that keeps the keys of its samples; a share set aside for validation."""

from __future__ import annotations

from typing import Any

import torch

from frostline.core.arguments import as_count, as_items, as_number, as_seed
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import check_map_style, describe
from frostline.core.stages import stages_of
from frostline.data.labels import labels_of


class Part:
    """The samples of a dataset at these positions; what the dataset offers, the part offers too."""

    def __init__(self, dataset: Any, indices: list[int]) -> None:
        check_map_style(dataset)
        self.dataset, self.indices = dataset, [_index(at, len(dataset)) for at in as_items("Part", "indices", indices)]
        if hasattr(dataset, "sample_key"):
            self.sample_key = self._sample_key
        if hasattr(dataset, "target"):
            self.target = self._target
        self._stages = stages_of(dataset)
        if self._stages is not None:
            self.source, self.from_source = self._source, self._from_source

    @property
    def fingerprint(self) -> Any:
        """That of the dataset, as it is now."""
        return self.dataset.fingerprint

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def _sample_key(self, index: int) -> bytes:
        return self.dataset.sample_key(self.indices[index])

    def _target(self, index: int) -> Any:
        return self.dataset.target(self.indices[index])

    def _source(self, index: int) -> Any:
        return self._stages[0](self.indices[index]) if self._stages else None

    def _from_source(self, source: Any, index: int) -> Any:
        return self._stages[1](source, self.indices[index]) if self._stages else None


def _index(at: Any, count: int) -> int:
    index = as_count("Part", "indices", at, least=-count)
    if index >= count:
        raise DataError(
            what="A part of a dataset needs samples that are there.", where="Part(indices)",
            received=f"{index} of {count} samples", do=f"pass positions from 0 to {count - 1}.",
        )  # fmt: skip
    return index % count  # `dataset[-1]` need not work, and `sample_key(-1)` neither


@public("split_share")
def split_share(dataset: Any, share: float, seed: int) -> tuple[Part, Part]:
    """(training part, validation part), the validation part a share of every class.

    Args:
        dataset: A dataset with `.labels` or `.targets`, one class index per sample; or a part of one.
        share: Of the validation part, between 0 and 1.
        seed: Of the choice.

    Raises:
        DataError: If the share leaves one of the parts empty.
    """
    generator = torch.Generator().manual_seed(as_seed("split_share", "seed", seed))
    share = as_number("split_share", "share", share, above=0, below=1)
    check_map_style(dataset)
    labels = labels_of(dataset)
    if labels is None:
        raise DataError(
            what="This dataset has no labels that can be read.",
            where="split_share(dataset)", received=describe(dataset),
            do="give it an attribute `labels`, one class index per sample; ImageFolder and Arrays have it.",
        )  # fmt: skip
    held: list[int] = []
    for label in labels.unique().tolist():
        own = (labels == label).nonzero().squeeze(1)
        order = own[torch.randperm(len(own), generator=generator)]
        held += order[: round(share * len(own))].tolist()
    kept = sorted(set(range(len(labels))) - set(held))
    if not held or not kept:
        raise DataError(
            what="The share leaves training or validation without samples.", where="val_share",
            received=f"{share:g} of the {len(labels)} samples, taken of each class and rounded",
            do="pass another share, such as 0.2, or a validation set.",
        )  # fmt: skip
    return Part(dataset, kept), Part(dataset, sorted(held))
