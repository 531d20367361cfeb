"""Which layouts hold for a file: those of its framework; a parameter of no known layer is taken as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.layouts import flax, keras, onnx, torch
from frostline.porting.layouts.layout import SAME
from frostline.porting.layouts.rules import assemble
from frostline.porting.units import is_layer

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units import SourceUnit, TargetUnit

_BY_FRAMEWORK = {
    "keras": keras.moves, "tensorflow": keras.moves, "torch": torch.moves, "flax": flax.moves,
    "onnx": onnx.moves,
}


def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """How `unit` becomes `target`, tensor by tensor; None if it cannot."""
    found = _BY_FRAMEWORK[unit.framework](unit, target) if is_layer(target.module) else None
    if found is None and not is_layer(target.module) and len(unit.leaves) == len(target.tensors) == 1:
        leaf, own = next(iter(unit.leaves)), next(iter(target.tensors))
        found = assemble(unit, target, {leaf: (own, SAME)})
    return found
