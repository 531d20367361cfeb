"""Samples of differing size as one padded batch: how a collate function pads, as a value that can be applied again.

Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Number = int | float | bool


@dataclass(frozen=True)
class Padding:
    """How samples of differing size become a batch.

    Attributes:
        inputs: The value at padded places by name of the input; inputs that are not here have one size.
        targets: The same of the targets.
        is_left: Padding comes before the sample, not behind it.
        axes: The axes that vary, by name of the input.
    """

    inputs: Mapping[str, Number]
    targets: Mapping[str, Number] = field(default_factory=dict[str, Number])
    is_left: bool = False
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])

    @property
    def is_varying(self) -> bool:
        """True if some input has another size for other samples."""
        return bool(self.inputs)

    def batch(self, samples: Sequence[Any], indices: Sequence[int] = ()) -> Any:
        """The inputs of several samples as a batch, padded to the largest."""
        return _padded(samples, self.inputs, is_left=self.is_left)

    def batch_of_targets(self, targets: Sequence[Any]) -> Any:
        """The targets of several samples as a batch, padded to the largest."""
        return _padded(targets, self.targets, is_left=self.is_left)

    def value_of(self, name: str) -> Number:
        """The value at padded places of a frontier tensor: zero, but for an input."""
        return self.inputs.get(name.removeprefix("input."), 0) if name.startswith("input.") else 0


@dataclass(frozen=True)
class PaddedBatch:
    """A batch of samples that differ in size, and which of its places are their own.

    Attributes:
        inputs: The batch, padded to the largest sample.
        sizes: The shape of every sample by name of the input.
        is_left: Padding comes before the sample.
    """

    inputs: Any
    sizes: Mapping[str, Sequence[tuple[int, ...]]]
    is_left: bool = False


def pad_rows(rows: Sequence[Tensor], value: Number, *, is_left: bool = False) -> Tensor:
    """Tensors of one rank as one, (B, *largest shape).

    Example:
        >>> pad_rows([torch.tensor([1, 2]), torch.tensor([3])], 0).tolist()
        [[1, 2], [3, 0]]
    """
    shapes = [tuple(row.shape) for row in rows]
    if len(set(shapes)) == 1:
        return torch.stack(list(rows))
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    batch = rows[0].new_full((len(rows), *largest), value)
    for at, row in enumerate(rows):
        own_part(batch[at], shapes[at], is_left=is_left).copy_(row)
    return batch


def own_part(padded: Tensor, shape: Sequence[int], *, is_left: bool) -> Tensor:
    """The places of a padded row that are the sample's own."""
    parts = [
        slice(size - own, None) if is_left else slice(0, own) for size, own in zip(padded.shape, shape, strict=True)
    ]
    return padded[tuple(parts)] if parts else padded


def sizes_of(samples: Sequence[Any]) -> dict[str, list[tuple[int, ...]]]:
    """The shape of every sample by name of the tensor."""
    found = [batches.leaves(sample) for sample in samples]
    return {name: [tuple(own[name].shape) for own in found] for name in found[0]}


def groups_of_one_size(samples: Sequence[Any]) -> list[list[int]]:
    """Positions of the samples, those of one size together, in their order."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for at, sample in enumerate(samples):
        groups.setdefault(size_of(sample), []).append(at)
    return list(groups.values())


def size_of(sample: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of a sample's tensors."""
    return tuple(tuple(tensor.shape) for tensor in batches.leaves(batches.map_arrays(sample)).values())


def _padded(samples: Sequence[Any], values: Mapping[str, Number], *, is_left: bool) -> Any:
    found = [batches.leaves(sample) for sample in samples]
    joined: Iterator[Tensor] = iter(
        [pad_rows([own[name] for own in found], values.get(name, 0), is_left=is_left) for name in found[0]]
    )
    return batches.map_tensors(samples[0], lambda _: next(joined))
