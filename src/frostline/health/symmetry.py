"""Units of a layer that are copies of each other: they get the same gradient, and stay copies.

Legend: U units, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from frostline.health.layers import Found

# Rounding parts copies by about 1e-7 of their size in a step; drawn weights of 1,000 units are 1e-3 apart.
_SAME = 1e-5


def copies(found: list[Found]) -> dict[str, float]:
    """Share of units that are copies of others, for every trainable linear and convolution layer with more than one."""
    shares: dict[str, float] = {}
    for entry in found:
        weight = getattr(entry.module, "weight", None)
        if entry.layer.kind not in {"linear", "convolution"} or not isinstance(weight, Tensor) or entry.layer.is_frozen:
            continue
        transposed = bool(getattr(entry.module, "transposed", False))
        if weight.is_complex() or not bool(torch.isfinite(weight.detach()).all()):
            continue
        rows_UF = (weight.detach().transpose(0, 1) if transposed else weight.detach()).flatten(1)
        bias = getattr(entry.module, "bias", None)
        if isinstance(bias, Tensor) and len(bias) == len(rows_UF):
            rows_UF = torch.cat([rows_UF, bias.detach()[:, None]], dim=1)
        if len(rows_UF) > 1:
            shares[entry.layer.name] = _share_of_copies(rows_UF.double())
    return shares


def _share_of_copies(rows_UF: Tensor) -> float:
    """Of the units that have weights at all: pruned ones are no copies. If none has, all are copies of one."""
    is_used = (rows_UF != 0).any(dim=1)
    if not bool(is_used.any()):
        return 1.0 - 1.0 / len(rows_UF)
    rows_UF = rows_UF[is_used]
    if len(rows_UF) < 2:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(rows_UF.shape[1], 2, generator=generator, dtype=torch.float64).to(rows_UF.device)
    marks = rows_UF @ directions
    order = marks[:, 0].argsort()
    steps = (marks[order][1:] - marks[order][:-1]).abs() / float(marks.abs().max())
    return 1.0 - (1 + int((steps > _SAME).any(dim=1).sum())) / len(rows_UF)
