"""Query, key and value of an attention: separate layers, identified by name, and the parts of packed layers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frostline.porting.units.forms.joined import as_one
from frostline.porting.units.forms.parts import part, under
from frostline.porting.units.unit import Packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

QUERY, KEY, VALUE = ALL = ("query", "key", "value")
_ROLES = {
    "q": QUERY, "query": QUERY, "wq": QUERY, "queries": QUERY, "k": KEY, "key": KEY, "wk": KEY, "keys": KEY,
    "v": VALUE, "value": VALUE, "wv": VALUE, "values": VALUE,
}  # fmt: skip
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PACKED = re.compile(r"(to_?|w_?|c_?)?(qkv|kv|attn|in_proj|query_key_value|pack)(_?(proj|lin|linear|dense|layer))?")
_OPERATOR = re.compile(r"/(MatMul|Gemm)(_\d+)?$")
_BIASES = {"q_bias": QUERY, "k_bias": KEY, "v_bias": VALUE}  # BEiT stores these beside a packed matrix


def roles_of(name: str) -> tuple[str, ...]:
    """The roles in a packed layer with this name, in no particular order; empty if it is not such a name."""
    own = name.rpartition("/")[2].rpartition(".")[2].lower()
    found = _PACKED.fullmatch(own)
    if found is None or (found[2] in ("attn", "pack") and not found[1]):
        return ()
    return (KEY, VALUE) if found[2] == "kv" else ALL


def find_groups(units: Iterable[SourceUnit]) -> dict[str, dict[str, SourceUnit]]:
    """Groups of separate layers for query, key and value, by the name of an equivalent packed layer.

    Their names differ in one word only, which is their role: `q_proj`, `k_proj`, `v_proj`.
    """
    found: dict[str, dict[str, SourceUnit]] = {}
    for unit in units:
        outer, _, own = plain(unit.name).rpartition("/")
        words: list[str] = _WORD.findall(own)
        split = [_ROLES.get(word.lower(), word.lower()) for word in words]
        roles = [word for word in split if word in ALL]
        if len(roles) == 1 and not unit.parts:
            rest = "_".join(word for word in split if word not in ALL)
            found.setdefault(under(outer, f"qkv_{rest}" if rest else "qkv"), {}).setdefault(roles[0], unit)
    return {name: {role: parts[role] for role in ALL} for name, parts in found.items() if set(parts) == set(ALL)}


def plain(name: str) -> str:
    """The name of a layer with `/` as the only separator, and without the operator that ONNX appends to it."""
    return _OPERATOR.sub("", name.replace(".", "/")).strip("/")


def joined(units: Sequence[SourceUnit], groups: Mapping[str, Mapping[str, SourceUnit]]) -> list[SourceUnit]:
    """The units; each of these groups is joined."""
    owner = {unit.name: name for name, parts in groups.items() for unit in parts.values()}
    made = {name: as_one(name, parts) for name, parts in groups.items()}
    return [
        made.pop(owner[unit.name]) if unit.name in owner else unit
        for unit in units
        if unit.name not in owner or owner[unit.name] in made
    ]


def divide(
    unit: SourceUnit, roles: tuple[str, ...], sizes: tuple[int, ...], axis: int, biases: Mapping[str, SourceTensor]
) -> list[SourceUnit]:
    """Divide a packed layer into query, key and value, if they lie one after the other.

    Args:
        unit: The packed layer.
        roles: The roles of its projections, in order.
        sizes: The number of outputs of each projection.
        axis: The axis of the outputs in its matrix.
        biases: By role, the biases that are stored beside the layer.
    """
    outer = unit.name.rpartition("/")[0]
    made: list[SourceUnit] = []
    for at, role in enumerate(roles):
        own = {"bias": biases[role]} if role in biases else {}
        place = Packed(unit, roles, sizes, at, axis)
        made.append(replace(unit, name=under(outer, role), leaves=own, packed=place))
    return [select_rows(one, torch.arange(sum(sizes))) for one in made]


def select_rows(unit: SourceUnit, rows: Tensor) -> SourceUnit:
    """One projection of a packed layer; `rows` are the row indices of query, key and value, one after the other."""
    place = unit.packed
    assert place is not None
    start = sum(place.sizes[: place.at])
    own = rows[start : start + place.sizes[place.at]]
    other_leaves = {leaf: tensor for leaf, tensor in unit.leaves.items() if leaf not in place.whole.leaves}
    leaves = {leaf: _rows(tensor, leaf, own, place) for leaf, tensor in place.whole.leaves.items()}
    return replace(unit, leaves={**leaves, **other_leaves})


def _rows(tensor: SourceTensor, leaf: str, rows: Tensor, place: Packed) -> SourceTensor:
    """Some outputs of a tensor; a matrix of GPT-2 is transposed, since the new name does not show its layout."""
    is_matrix = len(tensor.shape) == 2
    axis = place.axis if is_matrix else 0
    is_turned = is_matrix and axis == 1 and leaf == "weight" and place.whole.framework in ("torch", "numpy", "gguf")
    shape = tuple(len(rows) if at == axis else size for at, size in enumerate(tensor.shape))

    def take(whole: Tensor) -> Tensor:
        chosen = whole.index_select(axis, rows)
        return chosen.mT.contiguous() if is_turned else chosen

    return part(tensor, f"[{place.roles[place.at]}]", shape[::-1] if is_turned else shape, take)


def find_biases(unit: SourceUnit, units: Iterable[SourceUnit]) -> tuple[dict[str, SourceTensor], str]:
    """The biases of query, key and value that are stored beside a packed layer, and the name of their unit."""
    outer = unit.name.rpartition("/")[0]
    for other in units:
        if other.name == outer and other.leaves and set(other.leaves) <= set(_BIASES):
            return {_BIASES[leaf]: tensor for leaf, tensor in other.leaves.items()}, other.name
    return {}, ""
