"""How features lie in shards: as the model computes them, or rounded to a smaller type with a stated error.

A rounded tensor is loaded in the dtype that the model computes. Whole numbers, masks and inputs of the model are never
rounded.

Legend: B batch, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from frostline.core.errors import DataError
from frostline.core.inputs import flat_rows, rows_where
from frostline.core.records import FrontierTensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.caching.part import FrozenPart

EXACT = "exact"
# The largest error of a value, relative to the largest value of its row: half a step of the type.
BOUNDS = {EXACT: 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8, "int8": 1 / 254}
_HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_SUFFIX = " scale"
_SCHEMA = "1"  # raise it when rows are rounded in another way


@dataclass(frozen=True)
class StoredPart:
    """A frozen part as a folder of the cache knows it: with the tensors that lie in its shards."""

    recipe: Mapping[str, str]
    frontier: tuple[FrontierTensor, ...]


class Storage:
    """The storage of one frozen part.

    Args:
        kind: `exact`, `float16`, `bfloat16` or `int8`.
        part: The frozen part.

    Attributes:
        kind: The same.
        rounded: The tensors that are rounded, by name.
        error: The largest relative error of what was rounded so far.
    """

    def __init__(self, kind: str, part: FrozenPart) -> None:
        self.kind, self._part, self.error = kind, part, 0.0
        self.rounded: dict[str, FrontierTensor] = {}
        if kind != EXACT:
            masks = _masks(part)
            self.rounded = {own.name: own for own in part.frontier if own.name not in masks and _is_larger(own, kind)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_part": None}  # loading rows needs no model

    @property
    def part(self) -> FrozenPart | StoredPart:
        """The part whose recipe names the folder, with the tensors that its shards hold."""
        if not self.rounded:
            return self._part
        how = f"{self.kind}/{_SCHEMA} of {', '.join(self.rounded)}"
        return StoredPart({**self._part.recipe, "storage": how}, self.frontier)

    @property
    def frontier(self) -> tuple[FrontierTensor, ...]:
        """The tensors that lie in shards."""
        if not self.rounded:
            return tuple(self._part.frontier)
        found: list[FrontierTensor] = []
        for own in self._part.frontier:
            if own.name not in self.rounded:
                found.append(own)
                continue
            kind = _HALF.get(self.kind, torch.int8)
            size = own.bytes_per_sample // own.dtype.itemsize * kind.itemsize
            found.append(replace(own, dtype=kind, bytes_per_sample=size))
            if kind == torch.int8:
                shape = _scale_shape(own)
                found.append(replace(own, name=f"{own.name}{_SUFFIX}", shape=shape, dtype=torch.float32,
                                     bytes_per_sample=4 * math.prod(shape)))  # fmt: skip
        return tuple(found)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return sum(tensor.bytes_per_sample for tensor in self.frontier if not tensor.shared)

    def bound(self, name: str) -> float:
        """The largest error of a tensor, relative to the largest value of its row."""
        return BOUNDS[self.kind] if name in self.rounded else 0.0

    def rounded_rows(self, rows: dict[str, Tensor], indices: Sequence[int]) -> dict[str, Tensor]:
        """Rows (B, *shape) as they lie in shards.

        Args:
            rows: As the model computes them.
            indices: Their samples, for errors.

        Raises:
            DataError: If a value is beyond the range of the type.
        """
        found: dict[str, Tensor] = {}
        for name, exact in rows.items():
            if name not in self.rounded:
                found[name] = exact
            elif self.kind in _HALF:
                found[name] = exact.to(_HALF[self.kind])
                _check_range(name, exact, found[name], indices)
            else:
                _check_range(name, exact, exact.float(), indices)
                found[name], found[f"{name}{_SUFFIX}"] = _quantised(exact, self.rounded[name])
            if name in self.rounded:
                scale = found.get(f"{name}{_SUFFIX}")
                self.error = max(self.error, _error(exact, self.loaded(name, found[name], scale)))
        return found

    def loaded(self, name: str, stored: Tensor, scale: Tensor | None = None) -> Tensor:
        """A batch (B, *shape) of what lies in shards, in the dtype of the model."""
        own = self.rounded.get(name)
        if own is None:
            return stored
        if scale is None:
            return stored.to(own.dtype)
        return (stored.float() * scale.reshape(_beside(scale, stored.dim(), own))).to(own.dtype)

    def scale_name(self, name: str) -> str | None:
        """The name of the scales of a tensor in a shard; None if it has none."""
        return f"{name}{_SUFFIX}" if name in self.rounded and self.kind == "int8" else None

    def text(self, error: float) -> str:
        """For people, with the largest error of all rows."""
        names = ", ".join(self.rounded) or "nothing: all tensors are whole numbers, masks or inputs"
        return f"stored as {self.kind}: {names}; largest error {error:.1e} of the largest value of a row " \
               f"(at most {BOUNDS[self.kind]:.1e})"  # fmt: skip


def check_storage(call: str, kind: Any) -> str:
    """The storage type, if it is one.

    Raises:
        DataError: If it is not.
    """
    if not isinstance(kind, str) or kind not in BOUNDS:
        raise DataError(
            what="This is not a storage type.", where=f"{call}(storage=...)", received=repr(kind),
            do=f"pass one of {', '.join(map(repr, BOUNDS))}.",
        )  # fmt: skip
    return kind


def as_loaded(kind: str, name: str, values: Tensor) -> tuple[Tensor, float]:
    """A batch (B, *shape) of features as they come back from this storage, and the share of its bytes that it takes.

    Args:
        kind: `exact`, `float16`, `bfloat16` or `int8`.
        name: Of the features, for errors.
        values: As the model computes them.

    Raises:
        DataError: If a value is beyond the range of the type.
    """
    size = values[0].numel() * values.itemsize
    own = FrontierTensor(name, tuple(values.shape[1:]), values.dtype, size, shared=False)
    storage: Any = Storage(kind, cast("Any", StoredPart({}, (own,))))
    if not storage.rounded:
        return values, 1.0
    rows = storage.rounded_rows({name: values}, range(len(values)))
    return storage.loaded(name, rows[name], rows.get(f"{name}{_SUFFIX}")), storage.row_bytes / max(1, size)


def _is_larger(own: FrontierTensor, kind: str) -> bool:
    """True for floats of the frozen part that take more bytes than the type."""
    if not own.dtype.is_floating_point or own.shared or own.name.startswith("input."):
        return False
    return own.dtype.itemsize > _HALF.get(kind, torch.int8).itemsize


def _masks(part: FrozenPart) -> frozenset[str]:
    """Float tensors that hold nothing but 0, 1 and the lowest value: additive and multiplicative masks."""
    features: Any = getattr(part, "example_features", None) or ()
    pairs = zip(part.frontier, features, strict=False)
    return frozenset(own.name for own, value in pairs if value.is_floating_point() and _is_mask(value))


def _is_mask(value: Tensor) -> bool:
    return bool(((value == 0) | (value == 1) | (value <= torch.finfo(value.dtype).min / 2)).all())


def _channel(own: FrontierTensor) -> int | None:
    """The axis of a row with a scale for each entry: (C, H, W), (T, C); None: one scale for the row."""
    rank = len(own.shape)
    axis = 0 if rank >= 3 else 1 if rank == 2 else None
    return None if axis is None or own.shape[axis] == -1 else axis


def _scale_shape(own: FrontierTensor) -> tuple[int, ...]:
    axis = _channel(own)
    return (1,) if axis is None else (own.shape[axis],)


def _beside(scale: Tensor, rank: int, own: FrontierTensor) -> list[int]:
    """The shape of scales (B, C) that multiplies rows of this rank."""
    axis, shape = _channel(own), [len(scale), *[1] * (rank - 1)]
    if axis is not None:
        shape[axis + 1] = scale.shape[1]
    return shape


def _quantised(exact: Tensor, own: FrontierTensor) -> tuple[Tensor, Tensor]:
    """(whole numbers from -127 to 127, scales (B, C)): a channel's largest value becomes 127."""
    axis, wide = _channel(own), exact.float()
    others = [at for at in range(1, wide.dim()) if axis is None or at != axis + 1]
    largest = wide.abs().amax(others) if others and wide.numel() else wide.abs()
    scale = (flat_rows(largest) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    number = (wide / scale.reshape(_beside(scale, wide.dim(), own))).round_().clamp_(-127, 127)
    return number.to(torch.int8), scale


def _check_range(name: str, exact: Tensor, stored: Tensor, indices: Sequence[int]) -> None:
    beyond = ~stored.isfinite() if stored.numel() else stored.new_zeros(stored.shape, dtype=torch.bool)
    if not bool(beyond.any()):
        return
    bad = rows_where(beyond)
    largest = float(exact.double().abs().max())
    raise DataError(
        what=f"The features {name!r} are beyond the range of the storage type.",
        where=f"{name}, samples {', '.join(str(indices[at]) for at in bad[:8])}",
        received=f"values up to {largest:.3g}, or infinite ones",
        do='pass storage="bfloat16", whose range is that of float32, or storage="exact".',
    )


def _error(exact: Tensor, loaded: Tensor) -> float:
    """The largest difference, relative to the largest value of its row."""
    if not exact.numel():
        return 0.0
    rows, others = (flat_rows(own).float() for own in (exact, loaded))
    return float(((rows - others).abs().amax(1) / rows.abs().amax(1).clamp(min=1e-30)).max())
