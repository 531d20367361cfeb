"""Query, key and value in one matrix: the possible orders of its rows, and its assembly from separate layers.

Legend: H heads, D features of a head, R rows of the packed matrix.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.porting.layouts.layout import Layout, Move, padded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from frostline.porting.units.unit import SourceUnit, TargetUnit

    Rule = Callable[[SourceUnit, TargetUnit], tuple[Move, ...] | None]

IN_ORDER = "query, key, value"
# Names of layers with query, key and value one after the other, in PyTorch, timm and code derived from them.
_ORDERED = frozenset({"in_proj", "qkv", "to_qkv", "c_attn", "wqkv", "qkv_proj", "kv", "to_kv", "kv_proj", "wkv"})


def is_in_order(name: str) -> bool:
    """Whether a layer with this name usually has query, key and value one after the other."""
    return name.rpartition("/")[2].rpartition(".")[2].lower() in _ORDERED


# All packed layers of a file are taken in one order, so that three assignments are run for a network, and not three
# for each of its layers.
def orders(sizes: Sequence[int], counts: Iterable[int]) -> dict[str, Tensor]:
    """Every order in which the rows of query, key and value may lie in one matrix.

    Args:
        sizes: The number of rows of each; query may have several heads for each head of key and value.
        counts: The possible numbers of heads of key and value.

    Returns:
        By name, the row index in the matrix of each row of (query, key, value); the identity comes first.
    """
    total, parts = sum(sizes), len(sizes)
    found = {IN_ORDER: torch.arange(total)}
    for count in counts:
        if any(size % count for size in sizes):
            continue
        of_head = torch.arange(total).reshape(count, -1).split([size // count for size in sizes], dim=1)
        found[f"(heads, {parts}, d) of {count} heads"] = torch.cat([one.reshape(-1) for one in of_head])
        if len(set(sizes)) == 1:
            separate = torch.arange(total).reshape(count, -1, parts)
            found[f"(heads, d, {parts}) of {count} heads"] = separate.movedim(2, 0).reshape(-1)
    distinct = {tuple(rows.tolist()): name for name, rows in reversed(found.items())}
    return {name: rows for name, rows in found.items() if distinct[tuple(rows.tolist())] == name}


def from_packed(name: str, rows: Tensor) -> Layout:
    """The layout from a packed matrix in some order to the order query, key, value."""
    back = torch.empty_like(rows)
    back[rows] = torch.arange(len(rows))
    return Layout(
        f"rows {name}, to {IN_ORDER}",
        lambda tensor: tensor.index_select(0, rows.to(tensor.device)),
        lambda tensor: tensor.index_select(0, back.to(tensor.device)),
    )


def to_packed(name: str, rows: Tensor) -> Layout:
    """The layout from rows in the order query, key, value to the order of a packed matrix."""
    other = from_packed(name, rows)
    return Layout(f"rows {IN_ORDER}, to {name}", other.inverse, other.forward)


def moves(unit: SourceUnit, target: TargetUnit, rule: Rule) -> tuple[Move, ...] | None:
    """The moves from separate layers to one packed matrix or an `nn.MultiheadAttention`; None if they do not fit.

    Args:
        unit: A unit of several layers, in the order of the rows; the last one of an attention is the output projection.
        target: The layer of the module.
        rule: The layout rule for a linear layer of the file.
    """
    names = tuple(unit.parts)
    if isinstance(target.module, nn.MultiheadAttention):
        found = [
            *_joined(unit, names[:-1], target, ("in_proj_weight", "in_proj_bias"), rule),
            *_joined(unit, names[-1:], target, ("out_proj.weight", "out_proj.bias"), rule),
        ]
    else:
        found = _joined(unit, names, target, ("weight", "bias"), rule)
    used = [leaf for move in found for leaf in move.sources]
    is_whole = {move.target for move in found} == set(target.tensors) and sorted(used) == sorted(unit.leaves)
    return tuple(found) if is_whole else None


def _joined(
    unit: SourceUnit, names: Sequence[str], target: TargetUnit, owns: tuple[str, str], rule: Rule
) -> list[Move]:  # fmt: skip
    """The moves into one matrix and its bias; empty if the layers do not fit."""
    weight = target.tensors.get(owns[0])
    if weight is None or weight.ndim != 2 or not weight.numel():
        return []
    rows, columns = weight.shape
    held = [max((tensor.shape for tensor in unit.parts[name].leaves.values()), key=len, default=()) for name in names]
    sizes = [torch.Size(shape).numel() // columns for shape in held]
    if sum(sizes) != rows or 0 in sizes:
        return []
    weights: list[Move] = []
    biases: list[Move] = []
    for name, size in zip(names, sizes, strict=True):
        found = _part(unit.parts[name], target, (size, columns), rule)
        if found is None or any(move.combine is not None for move in found):
            return []
        by_target = {
            move.target: replace(move, sources=tuple(f"{name}/{leaf}" for leaf in move.sources)) for move in found
        }
        weights.append(by_target["weight"])
        biases.append(by_target.get("bias", Move("bias")))
    has_bias = owns[1] in target.tensors
    return [_in_one(owns[0], weights, sizes), *([_in_one(owns[1], biases, sizes)] if has_bias else [])]


def _part(
    unit: SourceUnit, target: TargetUnit, shape: tuple[int, int], rule: Rule
) -> tuple[Move, ...] | None:  # fmt: skip
    linear = nn.Linear(shape[1], shape[0], bias=len(unit.leaves) > 1, device="meta")
    return rule(unit, replace(target, module=linear, tensors=dict(linear.named_parameters()), names={}))


def _in_one(own: str, moves: Sequence[Move], sizes: Sequence[int]) -> Move:
    """The move from several tensors to one; a missing tensor, such as the key bias in Whisper, is replaced by zeros."""
    held = [at for at, move in enumerate(moves) if move.sources]
    layouts: list[Layout] = []
    for index, at in enumerate(held):
        before = sum(sizes[:at]) if index == 0 else 0
        following = held[index + 1] if index + 1 < len(held) else len(sizes)
        after = sum(sizes[at + 1 : following])
        (layout,) = moves[at].layouts
        layouts.append(layout.then(padded("zeros where there is none", before, after)) if before + after else layout)
    return Move(own, tuple(leaf for at in held for leaf in moves[at].sources), tuple(layouts))
