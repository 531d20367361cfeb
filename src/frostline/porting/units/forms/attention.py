"""Projections of an attention: four layers in most files, one module of PyTorch; or query, key and value packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.units.forms.joined import joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.units.unit import SourceUnit, TargetUnit

# What the projections are called below the attention: in Keras, Flax, BERT, and by those who write them by hand.
_PARTS = (
    *(("query", "key", "value", out) for out in ("attention_output", "output", "out", "dense")),
    ("self/query", "self/key", "self/value", "output/dense"), ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"), ("q", "k", "v", "o"),
)  # fmt: skip
_MLP = ("intermediate", "output")  # of BERT, beside a projection that is called `dense`
_LEAF_NAMES = ("query", "key", "value", "output")


def has_attention(targets: Sequence[TargetUnit]) -> bool:
    """Whether the module has any `nn.MultiheadAttention` in one piece."""
    return any(isinstance(target.module, nn.MultiheadAttention) for target in targets)


def with_attention(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units, the four projections of each attention as one."""
    made = list(units)
    for parts in _PARTS:
        made = joined(made, parts, _LEAF_NAMES, _MLP if parts[-1] == "dense" else ())
    return made


def is_packed(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> bool:
    """Whether the file has query, key and value of an attention as one matrix, where the module has an attention."""
    wanted = {
        frozenset((target.module.embed_dim, 3 * target.module.embed_dim)) for target in targets
        if isinstance(target.module, nn.MultiheadAttention)
    }  # fmt: skip
    shapes = (tensor.shape for unit in units for tensor in unit.leaves.values())
    return any(len(shape) == 2 and frozenset(shape) in wanted for shape in shapes)
