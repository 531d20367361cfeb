"""Rows of differing size in shards: their values one behind the other, and the shape of each.

A shard holds a varying tensor under two names: its own, the values of all rows as one axis; and that of `shapes_name`,
the shape of each row. Where a row begins follows from the shapes.

Legend: N samples, B batch, R rows of a shard.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.disk_array import disk_tensor
from frostline.core.padding import Number, own_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SUFFIX = " shapes"
_AT_ONCE = 2**20  # rows that are looked up together


def shapes_name(name: str) -> str:
    """The name under which a shard holds the shapes of a varying tensor."""
    return f"{name}{_SUFFIX}"


def packed(rows: Mapping[str, Tensor], varying: Iterable[str]) -> dict[str, Tensor]:
    """Rows (B, *shape) as a shard holds them."""
    names, found = set(varying), dict[str, Tensor]()
    for name, tensor in rows.items():
        if name not in names:
            found[name] = tensor
            continue
        found[name] = tensor.reshape(-1)
        found[shapes_name(name)] = torch.tensor(tensor.shape[1:], dtype=torch.int32, device="cpu").repeat(
            len(tensor), 1
        )
    return found


def chosen_rows(tensors: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """Some rows of a shard, in this order."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        shapes = tensors.get(shapes_name(name))
        if shapes is None:
            found[name] = tensor.index_select(0, kept)
            continue
        starts, counts = _places(shapes)
        parts = [tensor[starts[at] : starts[at] + counts[at]] for at in kept.tolist()]
        found[name] = torch.cat(parts) if parts else tensor[:0]
    return found


def fits(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, shape: tuple[int, ...], rows: int) -> bool:
    """True if a shard holds this number of rows of a varying tensor."""
    values, shapes = tensors.get(name), tensors.get(shapes_name(name))
    if values is None or shapes is None or values.dtype != dtype or shapes.dtype != torch.int32:
        return False
    if tuple(shapes.shape) != (rows, len(shape)) or values.dim() != 1 or bool((shapes < 0).any()):
        return False
    is_same = all(size == -1 or bool((shapes[:, axis] == size).all()) for axis, size in enumerate(shape))
    return is_same and int(shapes.long().prod(1).sum()) == len(values)


class RaggedSpan:
    """The rows of a varying tensor in all shards.

    Args:
        name: Of the tensor.
        mapped: What each shard holds.
        shard: (N,) the shard of each sample.
        row: (N,) its row there.
        value: At padded places.
        is_left: Padding comes before a row.
        folder: On the disk that takes what is large; None is memory.

    Attributes:
        shapes_N: (N, axes) the shape of each sample's row, int32.
    """

    def __init__(
        self, name: str, mapped: list[dict[str, Tensor]], shard: Tensor, row: Tensor, value: Number, *, is_left: bool,
        folder: Path | None = None,
    ) -> None:  # fmt: skip
        self._values = [tensors[name] for tensors in mapped]
        self._value, self._is_left = value, is_left
        shapes = [tensors[shapes_name(name)] for tensors in mapped]
        self._shard = shard
        self.shapes_N = disk_tensor((len(shard), shapes[0].shape[1]), torch.int32, folder)
        self._starts_N = disk_tensor((len(shard),), torch.int64, folder)
        for own, own_shapes in enumerate(shapes):
            starts = _places(own_shapes)[0]  # of one shard
            for first in range(0, len(shard), _AT_ONCE):
                part = slice(first, first + _AT_ONCE)
                at = (shard[part] == own).nonzero().squeeze(1)
                rows = row[part][at].long()
                self.shapes_N[part][at], self._starts_N[part][at] = own_shapes[rows], starts[rows]

    def gather(self, samples: Tensor) -> Tensor:
        """The rows of these samples, (B, *largest shape), in fresh memory."""
        shapes, starts, shards = (
            own.index_select(0, samples) for own in (self.shapes_N, self._starts_N, self._shard)
        )  # fmt: skip
        batch = self._values[0].new_full((len(samples), *shapes.amax(0).tolist()), self._value)
        places = zip(starts.tolist(), shards.tolist(), shapes.tolist(), strict=True)
        for at, (start, shard, shape) in enumerate(places):
            row = self._values[shard][start : start + math.prod(shape)].view(shape)
            own_part(batch[at], shape, is_left=self._is_left).copy_(row)
        return batch


def _places(shapes: Tensor) -> tuple[Tensor, Tensor]:
    """(where each row begins, how many values it has)."""
    counts = shapes.long().prod(1)
    return torch.cumsum(counts, 0) - counts, counts


class TargetSizes:
    """Targets of differing size, kept padded to the longest: a batch is cut to its own longest.

    Args:
        sizes: (N, axes) by name of the target.
        is_left: Padding comes before the target.
    """

    def __init__(self, sizes: Mapping[str, Tensor], *, is_left: bool) -> None:
        self._sizes, self._is_left = sizes, is_left

    def cut(self, targets: Any, samples: Tensor) -> Any:
        """The targets of these samples, padded no further than to the longest of them."""
        names = iter(batches.leaves(targets))

        def one(tensor: Tensor) -> Tensor:
            sizes = self._sizes.get(next(names))
            if sizes is None:
                return tensor
            own = sizes.index_select(0, samples.to(sizes.device)).amax(0).tolist()
            return own_part(tensor, [len(tensor), *own], is_left=self._is_left).contiguous()

        return batches.map_tensors(targets, one)

    def of(self, name: str) -> Tensor | None:
        """The size of each target of this name, (N, axes); None where all have one."""
        return self._sizes.get(name)

    def part(self, samples: Tensor) -> TargetSizes:
        """Those of these samples only."""
        return TargetSizes({name: own[samples] for name, own in self._sizes.items()}, is_left=self._is_left)
