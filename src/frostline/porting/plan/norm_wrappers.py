"""Weight norms and spectral norms of Flax and Keras, whose tensors are stored in a unit beside the normalised layer.

Flax stores scales and vectors, which the plan moves to the layer. Keras stores a second copy of the kernel, which the
plan drops: `SpectralNormalization` normalises the kernel during training, stores it normalised, and does nothing in
evaluation.
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
    """Move the tensors of norms to the layers that they normalise.

    Args:
        units: Units of the file.
        path: Path of the file, for error texts.

    Returns:
        The units without norms, and the tensors that were dropped, with the reason.

    Raises:
        PortError: If the two copies of a kernel differ.
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
    """Move the tensors of a norm of Flax to the layers that it names; if a layer is missing, nothing is moved."""
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
    """Drop the second kernel and the vector of a `SpectralNormalization` of Keras."""
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
            what="A layer under a spectral norm has two kernels in the file, and they differ.", where=path,
            received=f"{copy.name!r} and {kernel.name!r}",
            do="save the network again with Keras (model.save_weights), which writes the same kernel twice.",
        )  # fmt: skip
