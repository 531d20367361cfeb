"""Layers of Flax: a cell is a dense layer for each gate; `nn.scan` keeps equal layers in one stack."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.joined import joined
from frostline.porting.units.forms.parts import each_row, under

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.porting.units.unit import SourceUnit

_CELLS = (("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"), ("ir", "iz", "in", "hr", "hz", "hn"))


def with_cells(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units, the dense layers of each cell as one; hand-written networks of others have them, too."""
    made = list(units)
    for parts in _CELLS:
        made = joined(made, parts)
    return made


def unstacked(unit: SourceUnit) -> Iterator[list[SourceUnit]]:
    """The layers of a stack, which lie along the first axis of each array: `block/norm` is `block/0/norm` and so on."""
    counts = {tensor.shape[:1] for tensor in unit.leaves.values()}
    if unit.framework == "flax" and len(counts) == 1 and counts != {()}:
        (count,) = counts.pop()
        outer, _, own = unit.name.rpartition("/")
        parts = {leaf: each_row(tensor) for leaf, tensor in unit.leaves.items()}
        yield [
            replace(unit, name=under(under(outer, str(index)), own),
                    leaves={leaf: layers[index] for leaf, layers in parts.items()})
            for index in range(count)
        ]  # fmt: skip
