"""Units of the file as the module needs them: layers that it has in one piece are joined, others are taken apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.units.forms import attention, caffe, flax, haiku, keras, onnx, paddle, tensorflow, torch
from frostline.porting.units.forms.parts import under

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_APART = (
    keras.apart,
    torch.apart,
    onnx.apart,
    tensorflow.apart,
)  # each knows its layers by their leaves, whoever wrote the file


def grouped(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> tuple[SourceUnit, ...]:
    """The units that are matched.

    What a layer of the file consists of (the directions of a recurrent layer, the projections of an attention) are
    units of their own; projections of an attention are one where the module has any `nn.MultiheadAttention`.

    Args:
        units: Of the file.
        targets: Of the module.
    """
    made = [one for unit in caffe.with_scales(haiku.renamed(units)) for one in _apart(unit)]
    if any(isinstance(target.module, (nn.RNN, nn.RNNCell)) for target in targets):
        made = haiku.with_rnns(made)
    made = tensorflow.with_gru_cells(flax.with_cells(made))
    return tuple(attention.with_attention(made) if attention.has_attention(targets) else made)


def _apart(unit: SourceUnit) -> list[SourceUnit]:
    unit = paddle.renamed(torch.renamed(keras.renamed(unit)))
    if unit.framework == "tensorflow":
        unit = tensorflow.renamed(unit)
    scopes = dict.fromkeys(leaf.rpartition("/")[0] for leaf in unit.leaves)
    if set(scopes) - {""}:  # the layers of a layer
        return [one for scope in scopes for one in _apart(_below(unit, scope))]
    return next((made for rule in _APART if (made := rule(unit)) != [unit]), [unit])


def _below(unit: SourceUnit, scope: str) -> SourceUnit:
    leaves: dict[str, SourceTensor] = {}
    for leaf, tensor in unit.leaves.items():
        place, _, own = leaf.rpartition("/")
        if place == scope:
            leaves[own] = tensor
    return replace(unit, name=under(unit.name, scope), leaves=leaves)


def other_forms(unit: SourceUnit) -> Iterator[list[SourceUnit]]:
    """A unit that fits no layer, in the other forms that it may have: tensors of their own, or layers in one stack."""
    if len(unit.leaves) > 1:
        yield [
            replace(unit, name=under(unit.name, leaf), leaves={leaf: tensor}) for leaf, tensor in unit.leaves.items()
        ]
    yield from flax.unstacked(unit)
