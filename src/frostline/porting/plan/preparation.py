"""Layers of the file that only prepare inputs: `Normalization` of Keras holds mean and variance of its data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from frostline.porting.layouts.choice import moves
from frostline.porting.layouts.keras import is_statistic
from frostline.porting.readers.contract import SourceTensor
from frostline.porting.units.unit import SourceUnit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from frostline.porting.readers.contract import SourceLayer
    from frostline.porting.units.unit import TargetUnit

_SHOWN = 4  # numbers listed of a mean


@dataclass(frozen=True)
class Preparation:
    """The units of a file without layers that prepare inputs and that the module lacks.

    Attributes:
        units: The units. Mean and variance of a `Normalization` are one unit each, if the module has tensors for them.
        dropped: Tensors that are not assigned, and why.
        notes: How inputs have to be prepared before the module.
    """

    units: tuple[SourceUnit, ...]
    dropped: dict[str, str]
    notes: tuple[str, ...]


def prepared(
    units: Sequence[SourceUnit], targets: Sequence[TargetUnit], layers: Sequence[SourceLayer] = ()
) -> Preparation:
    """Split layers that normalise inputs, or remove them if the module has no tensors for them.

    Args:
        units: Units of the file.
        targets: Units of the module.
        layers: The architecture, which may state a mean and a variance that are no weights.
    """
    kept: list[SourceUnit] = []
    dropped: dict[str, str] = {}
    notes: list[str] = []
    for layer in layers:
        parts = list(_stated(layer))
        if parts and all(any(is_statistic(part, target) for target in targets) for part in parts):
            kept += parts
            notes.append(f"The mean and the variance of {layer.name!r} were taken as stated in the architecture.")
    for unit in units:
        if not _is_normalization(unit) or any(moves(unit, target) is not None for target in targets):
            kept.append(unit)
            continue
        dropped |= {tensor.name: "counter" for leaf, tensor in unit.leaves.items() if leaf == "count"}
        parts = [replace(unit, name=f"{unit.name}/{leaf}", leaves={leaf: unit.leaves[leaf]})
                 for leaf in ("mean", "variance")]  # fmt: skip
        if all(any(is_statistic(part, target) for target in targets) for part in parts):
            kept += parts
            continue
        mean, variance = (part.leaves[leaf] for part, leaf in zip(parts, ("mean", "variance"), strict=True))
        dropped |= {tensor.name: "preparation of inputs" for tensor in (mean, variance)}
        notes.append(
            f"The network of the file normalises its inputs in {unit.name!r}, and the module has no such layer: "
            f"subtract {_numbers(mean.load())} and divide by {_numbers(variance.load().sqrt())} before the module."
        )
    return Preparation(tuple(kept), dropped, tuple(notes))


def _stated(layer: SourceLayer) -> Iterator[SourceUnit]:
    """The mean and the variance that a `Normalization` was made with; it has no weights then."""
    if layer.kind != "Normalization":
        return
    found = {leaf: layer.config.get(f"input_{leaf}", layer.config.get(leaf)) for leaf in ("mean", "variance")}
    values = {leaf: made for leaf, value in found.items() if (made := _as_numbers(value)) is not None}
    for leaf, value in values.items() if len(values) == len(found) else ():
        name = f"{layer.name}/{leaf}"
        tensor = SourceTensor(name, tuple(value.shape), "float32", layer.name, leaf, value.clone)
        yield SourceUnit(name, "keras", {leaf: tensor}, layer)


def _as_numbers(value: object) -> Tensor | None:
    try:
        return torch.tensor(value, dtype=torch.float32) if isinstance(value, (int, float, list)) else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_normalization(unit: SourceUnit) -> bool:
    return unit.framework == "keras" and {"mean", "variance"} <= set(unit.leaves) <= {"mean", "variance", "count"}


def _numbers(values: Tensor) -> str:
    found = [f"{number:.6g}" for number in values.reshape(-1)[: _SHOWN + 1].tolist()]
    return f"({', '.join([*found[:_SHOWN], *(['...'] if len(found) > _SHOWN else [])])})"
