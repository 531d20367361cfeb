"""Recurrent nodes of ONNX: the first axis of their tensors is the direction, and a bias has two halves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import part, row

if TYPE_CHECKING:
    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit


def divide(unit: SourceUnit) -> list[SourceUnit]:
    """The directions of a recurrent node as separate units."""
    shapes = {leaf: tensor.shape for leaf, tensor in unit.leaves.items()}
    counts = {shape[:1] for shape in shapes.values()}
    is_sound = len(counts) == 1 and counts <= {(1,), (2,)} and len(shapes.get("B", (1, 1))) == 2
    if not {"W", "R"} <= set(unit.leaves) or not is_sound:
        return [unit]
    made: list[SourceUnit] = []
    for index in range(unit.leaves["W"].shape[0]):
        leaves = {leaf: row(tensor, index) for leaf, tensor in unit.leaves.items() if leaf != "B"}
        if "B" in unit.leaves:
            bias = unit.leaves["B"]
            half = bias.shape[1] // 2
            leaves["Wb"] = _half(bias, index, slice(0, half))
            leaves["Rb"] = _half(bias, index, slice(half, 2 * half))
        made.append(replace(unit, name=f"{unit.name}/{('forward', 'backward')[index]}", leaves=leaves))
    return made


def _half(bias: SourceTensor, index: int, half: slice) -> SourceTensor:
    size = half.stop - half.start
    return part(bias, f"[{index}][{half.start}:{half.stop}]", (size,), lambda whole: whole[index, half])
