"""Norms around layers of the file: Flax keeps what belongs to them beside the layer, Keras a copy of its kernel.

Keras normalises the kernel while it trains, and stores it so: its `SpectralNormalization` does nothing in evaluation.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import PortError
from frostline.porting.layouts.normed import SCALE, VECTOR
from frostline.porting.units.forms.parts import under

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

_OF_FLAX = re.compile(r"(.+)/(\w+)/(scale|u|sigma)")
_ENDS = {"scale": SCALE, "u": VECTOR}
_COPIES = {"layer_kernel": "kernel", "layer_embeddings": "embeddings"}
_DROPPED = "state of a spectral norm"


def unwrapped(units: Sequence[SourceUnit], path: str) -> tuple[tuple[SourceUnit, ...], dict[str, str]]:
    """The units, what norms keep with the layers that they normalise, and what was dropped of it.

    Args:
        units: Of the file.
        path: Of the file, for messages.

    Raises:
        PortError: If the copy of a kernel is another one.
    """
    dropped: dict[str, str] = {}
    by_name = {unit.name: unit for unit in units}
    for unit in units:
        if unit.framework == "flax" and unit.leaves and all(_OF_FLAX.fullmatch(leaf) for leaf in unit.leaves):
            _give(unit, by_name, dropped)
        elif unit.framework in ("keras", "tensorflow") and "vector_u" in unit.leaves:
            _take_out(unit, by_name, dropped, path)
    return tuple(unit for unit in by_name.values() if unit.leaves), dropped


def _give(norm: SourceUnit, by_name: dict[str, SourceUnit], dropped: dict[str, str]) -> None:
    """What a norm of Flax keeps, to the layers that it names; it stays as it is if one of them is not there."""
    outer = norm.name.rpartition("/")[0]
    places = {leaf: found for leaf in norm.leaves if (found := _OF_FLAX.fullmatch(leaf)) is not None}
    owners = {leaf: by_name.get(under(outer, place[1])) for leaf, place in places.items()}
    if any(owner is None or places[leaf][2] not in owner.leaves for leaf, owner in owners.items()):
        return
    for leaf, tensor in norm.leaves.items():
        name, own, kind = places[leaf].groups()
        if kind in _ENDS:
            unit = by_name[under(outer, name)]
            by_name[unit.name] = replace(unit, leaves={**unit.leaves, f"{own}{_ENDS[kind]}": tensor})
        else:
            dropped[tensor.name] = _DROPPED
    del by_name[norm.name]


def _take_out(unit: SourceUnit, by_name: dict[str, SourceUnit], dropped: dict[str, str], path: str) -> None:
    inner = by_name.get(under(unit.name, "layer"), unit)
    for leaf, tensor in unit.leaves.items():
        if leaf in _COPIES and _COPIES[leaf] in inner.leaves:
            _check_same(tensor, inner.leaves[_COPIES[leaf]], path)
    taken = {leaf: tensor for leaf, tensor in unit.leaves.items() if leaf == "vector_u" or leaf in _COPIES}
    dropped |= {tensor.name: _DROPPED for tensor in taken.values()}
    by_name[unit.name] = replace(unit, leaves=_without(unit.leaves, taken))


def _without(leaves: Mapping[str, SourceTensor], taken: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
    return {leaf: tensor for leaf, tensor in leaves.items() if leaf not in taken}


def _check_same(copy: SourceTensor, kernel: SourceTensor, path: str) -> None:
    if copy.shape != kernel.shape or not torch.equal(copy.load(), kernel.load()):
        raise PortError(
            what="The file has two different kernels of one layer under a spectral norm.", where=path,
            received=f"{copy.name!r} and {kernel.name!r}",
            do="save the network again with Keras, which writes the kernel twice with the same numbers.",
        )  # fmt: skip
