"""Units of a layer that are copies of each other: they get the same gradient, and stay copies.

Legend: U units, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.restore import evaluating, kept_buffers, kept_generators

if TYPE_CHECKING:
    from frostline.diagnosis.monitor.layers import Found

# Rounding parts copies by about 1e-7 of their size in a step; drawn weights of 1,000 units are 1e-3 apart.
_SAME = 1e-5
_GATED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def copies(found: list[Found]) -> dict[str, float]:
    """Share of units that are copies of others, for every trainable layer of the kinds that have units, if several."""
    shares: dict[str, float] = {}
    for entry in found:
        parts = [] if entry.layer.is_frozen else _units(entry)
        parts = [rows_UF for rows_UF in parts if len(rows_UF) > 1 and bool(torch.isfinite(rows_UF).all())]
        if parts:
            shares[entry.layer.name] = max(_share_of_copies(rows_UF.double()) for rows_UF in parts)
    return shares


def _units(entry: Found) -> list[Tensor]:
    """(U, F): all weights of each unit; one table for each layer and direction of a recurrent module."""
    module = entry.module
    if entry.layer.kind == "recurrent":
        return _recurrent_units(module)
    weight = _value(module, "weight")
    if entry.layer.kind not in {"linear", "convolution"} or not isinstance(weight, Tensor) or weight.is_complex():
        return []
    transposed = bool(getattr(module, "transposed", False))
    rows_UF = (weight.detach().transpose(0, 1) if transposed else weight.detach()).flatten(1)
    bias = _value(module, "bias")
    if isinstance(bias, Tensor) and len(bias) == len(rows_UF):
        rows_UF = torch.cat([rows_UF, bias.detach()[:, None]], dim=1)
    return [rows_UF]


def _value(module: nn.Module, name: str) -> Any:
    """A weight; what a parametrization computes of it is asked in evaluation, and leaves no trace in its state."""
    if name not in getattr(module, "parametrizations", ()):
        return getattr(module, name, None)
    with evaluating(module), kept_buffers(module), kept_generators():  # spectral norm takes a step each time it is read
        return getattr(module, name, None)


def _recurrent_units(module: nn.Module) -> list[Tensor]:
    """Of each hidden unit, the rows of all its gates."""
    hidden = int(getattr(module, "hidden_size", 0))
    named = {name: value.detach() for name, value in module.named_parameters(recurse=False)}
    tables: list[Tensor] = []
    for first in (name for name in named if name.startswith("weight_ih")):
        suffix = first.removeprefix("weight_ih")
        own = [named[f"{kind}{suffix}"] for kind in _GATED if f"{kind}{suffix}" in named]
        if hidden and all(len(value) % hidden == 0 for value in own):
            tables.append(
                torch.cat([v.view(-1, hidden, v.numel() // len(v)).transpose(0, 1).flatten(1) for v in own], 1)
            )
    return tables


def _share_of_copies(rows_UF: Tensor) -> float:
    """Of the units that have weights at all: pruned ones are no copies. If none has, all are copies of one."""
    is_used = (rows_UF != 0).any(dim=1)
    if not bool(is_used.any()):
        return 1.0 - 1.0 / len(rows_UF)
    rows_UF = rows_UF[is_used]
    if len(rows_UF) < 2:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    shape = rows_UF.shape[1], 2
    directions = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").to(rows_UF.device)
    marks = rows_UF @ directions
    order = marks[:, 0].argsort()
    steps = (marks[order][1:] - marks[order][:-1]).abs() / float(marks.abs().max())
    return 1.0 - (1 + int((steps > _SAME).any(dim=1).sum())) / len(rows_UF)
