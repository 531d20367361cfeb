"""A dense layer as a convolution with kernel size 1: both multiply the channels at each position by one matrix.

The reverse is a rule of each framework. Neither is used if a layer has a partner of its own type.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.layouts import choice
from frostline.porting.layouts.layout import reshaped

if TYPE_CHECKING:
    from frostline.porting.layouts.layout import Move
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


# A network may have dense layers and 1x1 convolutions of one size. They stay told by type, because this rule is not
# used where a partner of the own type exists.
def moves(unit: SourceUnit, target: TargetUnit) -> tuple[Move, ...] | None:
    """The moves from a dense layer to a convolution with kernel size 1; None if the layers do not fit.

    Args:
        unit: The source unit.
        target: The layer.
    """
    module = target.module
    if not isinstance(module, _CONVOLUTIONS) or target.norm is not None or target.norms:
        return None
    if module.groups != 1 or math.prod(module.kernel_size) != 1:
        return None
    outer, inner = module.out_channels, module.in_channels
    linear = nn.Linear(inner, outer, "bias" in target.tensors, device="meta")
    found = choice.moves(unit, replace(target, module=linear, tensors=dict(linear.named_parameters())))
    wide = reshaped("as a convolution over one place", (outer, inner), tuple(target.tensors["weight"].shape))
    if found is None or any(move.combine is not None or len(move.layouts) > 1 for move in found):
        return None
    return tuple(
        replace(move, layouts=(move.layouts[0].then(wide),)) if move.target == "weight" else move for move in found
    )
