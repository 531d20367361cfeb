"""Units of Haiku with the leaves of Flax; a BatchNorm has its statistics in separate modules."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.parts import part, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

_LEAVES = {"w": "kernel", "b": "bias", "offset": "bias", "embeddings": "embedding"}
_STATISTICS = re.compile(r"(.+)/~/(mean|var)_ema")
_RNN = re.compile(r"(.*rnn(?:_\d+)?)/linear(_1)?")  # of the input, and of the state
_LSTM = re.compile(r"(.*lstm(?:_\d+)?)/linear")  # the linear layer of a cell, whose own name the user may choose


def renamed(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units with the leaves of Flax.

    Args:
        units: The units of the file; those of other frameworks are unchanged.
    """
    made: dict[str, SourceUnit] = {}
    for unit in units:
        found = _STATISTICS.fullmatch(unit.name) if unit.framework == "haiku" else None
        if unit.framework != "haiku":
            made[unit.name] = unit
        elif found is not None and "average" in unit.leaves:
            _give(made, unit, *found.groups())
        else:
            own = _renamed(unit)
            before = made[own.name].leaves if own.name in made else {}
            made[own.name] = replace(own, leaves={**own.leaves, **before})
    return list(made.values())


def with_rnns(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units, both layers of each VanillaRNN as one, in the words of a cell of NNX.

    Args:
        units: With the leaves of `renamed`.
    """
    found = {unit.name: match for unit in units if unit.framework == "haiku" and (match := _RNN.fullmatch(unit.name))}
    cells = {match[1] for match in found.values()}
    whole = {name for name in cells if {f"{name}/linear", f"{name}/linear_1"} <= set(found)}
    made: dict[str, SourceUnit] = {}
    for unit in units:
        match = found.get(unit.name)
        if match is None or match[1] not in whole:
            made[unit.name] = unit
            continue
        own = {f"dense_{'h' if match[2] else 'i'}/{leaf}": tensor for leaf, tensor in unit.leaves.items()}
        before = made[match[1]].leaves if match[1] in made else {}
        made[match[1]] = replace(unit, name=match[1], leaves={**before, **own})
    return list(made.values())


def _give(made: dict[str, SourceUnit], unit: SourceUnit, name: str, statistic: str) -> None:
    """Move a statistic to the unit of its norm."""
    owner = made.get(name, replace(unit, name=name, leaves={}))
    made[name] = replace(owner, leaves={**owner.leaves, statistic: _flat(unit.leaves["average"])})


def _renamed(unit: SourceUnit) -> SourceUnit:
    leaves = {_LEAVES.get(leaf, leaf): tensor if leaf in ("w", "embeddings") else _flat(tensor)
              for leaf, tensor in unit.leaves.items()}  # fmt: skip
    kernel, cell = leaves.get("kernel"), _LSTM.fullmatch(unit.name)
    if cell is None or kernel is None or len(kernel.shape) != 2 or kernel.shape[1] % 4:
        return replace(unit, leaves=leaves)
    inputs = kernel.shape[0] - kernel.shape[1] // 4
    if inputs <= 0:
        return replace(unit, leaves=leaves)
    del leaves["kernel"]
    halves = {"kernel_of_input": rows(kernel, 0, inputs), "kernel_of_state": rows(kernel, inputs, kernel.shape[0])}
    return replace(unit, name=cell[1], leaves={**halves, **leaves})


def _flat(tensor: SourceTensor) -> SourceTensor:
    """A vector without its spatial axes of size 1: (1, 1, 1, C) or (C, 1, 1)."""
    sizes = [size for size in tensor.shape if size > 1]
    if len(tensor.shape) < 2 or len(sizes) > 1:
        return tensor
    shape = (sizes[0] if sizes else 1,)
    return part(tensor, "", shape, lambda whole: whole.reshape(shape))
