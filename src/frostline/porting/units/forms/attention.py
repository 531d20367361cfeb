"""Projections of an attention: four layers in most files, one module in PyTorch; or packed query, key and value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.units.forms import projections
from frostline.porting.units.forms.parts import under

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.units.unit import SourceUnit, TargetUnit

# Names of the output projection: in Keras, Flax, BERT, and in custom implementations.
_OUTPUTS = ("attention_output", "output", "out", "out_proj", "output_proj", "o_proj", "o", "wo", "to_out", "to_out/0",
            "proj", "dense", "linear")  # fmt: skip
_OF_STATE = ("recurrent_kernel", "weight_hh", "w_h")  # leaves that only recurrent layers have
_GATES = ("dense_i", "dense_h")  # cells of NNX
_MLP = ("intermediate", "output")  # layers of BERT beside an output projection with the name `dense`


def has_attention(targets: Sequence[TargetUnit]) -> bool:
    """Whether the module contains an `nn.MultiheadAttention`."""
    return any(isinstance(target.module, nn.MultiheadAttention) for target in targets)


def with_attention(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units; the four projections of each attention are joined."""
    groups = projections.find_groups(units)
    by_name = {projections.plain(unit.name): unit for unit in units}
    outers = [name.rpartition("/")[0] for name in groups]
    made: dict[str, dict[str, SourceUnit]] = {}
    for (name, parts), outer in zip(groups.items(), outers, strict=True):
        whole, out = _with_output(by_name, outer, parts)
        if out is not None:
            made[whole if outers.count(outer) == 1 else name] = {**parts, "output": out}
    return projections.joined(units, made)


def _with_output(
    by_name: Mapping[str, SourceUnit], outer: str, parts: Mapping[str, SourceUnit]
) -> tuple[str, SourceUnit | None]:
    """The name of the attention, and its output projection if the name identifies it; otherwise None."""
    of_bert = outer.rpartition("/")[0]
    if outer.rpartition("/")[2] == "self" and under(of_bert, "output/dense") in by_name:
        return of_bert, by_name[under(of_bert, "output/dense")]
    for name in _OUTPUTS:
        found = by_name.get(under(outer, name))
        if found is not None and not _has_double(by_name, outer, found, parts, is_dense=name == "dense"):
            return outer, found
    return outer, None


def _has_double(
    by_name: Mapping[str, SourceUnit], outer: str, out: SourceUnit, parts: Mapping[str, SourceUnit], *, is_dense: bool
) -> bool:  # fmt: skip
    """Whether another unit beside these has the shapes of the last one, so that the output projection is ambiguous."""
    inside = {out.name, *(part.name for part in parts.values())}
    mlp = [by_name[name].name for name in (under(outer, one) for one in _MLP) if name in by_name]
    inside |= set(mlp) if is_dense and len(mlp) == len(_MLP) else set()
    beside = (unit for name, unit in by_name.items() if name.rpartition("/")[0] == outer and unit.name not in inside)
    return any(_shapes(unit) == _shapes(out) for unit in beside)


def _shapes(unit: SourceUnit) -> dict[str, tuple[int, ...]]:
    return {leaf: tensor.shape for leaf, tensor in unit.leaves.items()}


def is_packed(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> bool:
    """Whether the file has packed query, key and value for an `nn.MultiheadAttention` of the module."""
    wanted = {
        frozenset((target.module.embed_dim, 3 * target.module.embed_dim)) for target in targets
        if isinstance(target.module, nn.MultiheadAttention)
    }  # fmt: skip
    shapes = (tensor.shape for unit in units if not _is_recurrent(unit) for tensor in unit.leaves.values())
    return any(len(shape) == 2 and frozenset(shape) in wanted for shape in shapes)


def _is_recurrent(unit: SourceUnit) -> bool:
    """Whether the unit is a recurrent layer, whose three gates have the same sizes as query, key and value."""
    return unit.name.endswith(_GATES) or any(leaf.rpartition("/")[2].startswith(_OF_STATE) for leaf in unit.leaves)
