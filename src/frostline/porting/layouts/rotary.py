"""Rows in rotary pairs: Meta and llama.cpp rotate neighbouring rows of a head, transformers the halves of a head.

Legend: H heads, D rows of a head.

References:
    Su, Lu, Pan, Murtadha, Wen, Liu (2021), RoFormer, section 3.4.2; transformers, `convert_llama_weights_to_hf.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import Tensor, nn

from frostline.porting.layouts.layout import SAME, Layout
from frostline.porting.layouts.rules import assemble

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_LEAF = re.compile(r"(weight|bias) in rotary pairs of (\d+) heads")
NEIGHBOURS, HALVES = "rotary pairs as neighbouring rows", "rotary pairs as halves of a head"


def is_paired(unit: SourceUnit) -> bool:
    """Whether the file states that rows of the layer lie in pairs."""
    return any(_LEAF.fullmatch(leaf) for leaf in unit.leaves)


def moves(unit: SourceUnit, target: TargetUnit, order: str = NEIGHBOURS) -> tuple[Move, ...] | None:
    """The moves from a layer with rows in pairs to a linear layer that rotates in `order`; None if it does not fit."""
    if not isinstance(target.module, nn.Linear):
        return None
    rows: dict[str, tuple[str, Layout]] = {}
    for leaf, tensor in unit.leaves.items():
        found = _LEAF.fullmatch(leaf)
        if found is None:
            rows[leaf] = (leaf, SAME)
            continue
        layout = halves(int(found[2]), tensor.shape[0]) if order == HALVES else SAME
        if layout is None:
            return None
        rows[leaf] = (found[1], layout)
    return assemble(unit, target, rows)


# Which of the two orders a module wants does not show in shapes. Attentions of transformers are known by their
# module, Meta's by their names; for all others golden outputs decide.
def halves(num_heads: int, num_rows: int) -> Layout | None:
    """The layout from neighbouring rows to halves of a head; None if so many heads have no pairs of rows."""
    if num_heads < 1 or num_rows % (2 * num_heads):
        return None

    def turned(tensor: Tensor, inner: tuple[int, int]) -> Tensor:
        return tensor.reshape(num_heads, *inner, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)

    half = num_rows // num_heads // 2
    return Layout(f"{HALVES} ({num_heads} heads)", lambda x: turned(x, (half, 2)), lambda x: turned(x, (2, half)))
