"""Units of Flax: a cell has one dense layer per gate; `nn.scan` stacks equal layers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.joined import joined
from frostline.porting.units.forms.parts import each_along, under

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

_CELLS = (
    ("ii", "if", "ig", "io", "hi", "hf", "hg", "ho"), ("ii", "if_", "ig", "io", "hi", "hf", "hg", "ho"),
    ("ir", "iz", "in", "hr", "hz", "hn"),
)  # fmt: skip
_FUSED = ("dense_i", "dense_h")  # NNX: all gates for the input, all gates for the state


def with_cells(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units; the dense layers of each cell are joined (custom code in other frameworks has such cells, too)."""
    made = list(units)
    for parts in _CELLS:
        made = joined(made, parts)
    made = [replace(unit, leaves={leaf.replace("if_/", "if/"): tensor for leaf, tensor in unit.leaves.items()})
            if "if_/kernel" in unit.leaves else unit for unit in made]  # fmt: skip
    fused = {unit.name: unit for unit in joined(made, _FUSED) if _is_fused(unit)}
    parts_of = {part.name: unit.name for unit in fused.values() for part in unit.parts.values()}
    result: dict[str, SourceUnit] = {}
    for unit in made:
        name = parts_of.get(unit.name, unit.name)
        result[name] = fused[name] if unit.name in parts_of else unit
    return list(result.values())


def _is_fused(unit: SourceUnit) -> bool:
    """Whether the unit is a cell of NNX: both layers have outputs for all gates, and one has a bias."""
    if tuple(unit.parts) != _FUSED or "dense_i/kernel" not in unit.leaves or "dense_h/kernel" not in unit.leaves:
        return False
    inner, state = (unit.leaves[f"{part}/kernel"].shape for part in _FUSED)
    gates = {1: ("dense_i/bias",), 3: ("dense_i/bias",), 4: ("dense_h/bias",)}
    count = state[1] // max(state[0], 1) if len(inner) == len(state) == 2 and inner[1] == state[1] else 0
    biases = tuple(leaf for leaf in unit.leaves if leaf.endswith("/bias"))
    return count in gates and state[1] == count * state[0] and biases in ((), gates[count])


def unstacked(unit: SourceUnit) -> Iterator[list[SourceUnit]]:
    """The layers of a stack: `block/norm` is `block/0/norm` and so on.

    They lie along the first axis of each array, or along the second, as T5X and MaxText write them. If the shapes allow
    both, the units of the first hold those of the second in `along_second`.
    """
    if unit.framework != "flax" or not unit.leaves:
        return
    shapes = [tensor.shape for tensor in unit.leaves.values()]
    along = {axis: _along(unit, axis) for axis in (0, 1) if len({shape[axis : axis + 1] for shape in shapes}) == 1
             and all(len(shape) > axis for shape in shapes)}  # fmt: skip
    if len(along) == 2 and all(shape[0] == shape[1] for shape in shapes):
        yield [replace(first, along_second=second) for first, second in zip(along[0], along[1], strict=True)]
    else:
        yield from along.values()


def _along(unit: SourceUnit, axis: int) -> list[SourceUnit]:
    outer, _, own = unit.name.rpartition("/")
    rows = {leaf: each_along(tensor, axis) for leaf, tensor in unit.leaves.items()}
    count = min(map(len, rows.values()))
    return [_layer(unit, under(under(outer, str(index)), own), rows, index) for index in range(count)]


def _layer(unit: SourceUnit, name: str, rows: Mapping[str, Sequence[SourceTensor]], index: int) -> SourceUnit:
    """One layer of a stack, including the units from which it is joined (an attention)."""
    parts = {
        role: replace(part, leaves={leaf: rows[f"{role}/{leaf}"][index] for leaf in part.leaves})
        for role, part in unit.parts.items()
    }
    return replace(unit, name=name, leaves={leaf: layers[index] for leaf, layers in rows.items()}, parts=parts)
