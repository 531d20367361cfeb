"""Units of the file in the form of the module: layers are joined or divided as the module has them."""

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

_DIVIDERS = (
    keras.divide,
    torch.divide,
    onnx.divide,
    tensorflow.divide,
)  # each identifies its layers by their leaves, regardless of the framework of the file


def grouped(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> tuple[SourceUnit, ...]:
    """The units to assign.

    The parts of a layer in the file (directions of a recurrent layer, projections of an attention) become separate
    units; the projections of an attention are joined if the module contains an `nn.MultiheadAttention`.

    Args:
        units: The units of the file.
        targets: The units of the module.
    """
    made = [one for unit in caffe.with_scales(haiku.renamed(units)) for one in _divide(unit)]
    if any(isinstance(target.module, (nn.RNN, nn.RNNCell)) for target in targets):
        made = haiku.with_rnns(made)
    made = tensorflow.with_gru_cells(flax.with_cells(made))
    return tuple(attention.with_attention(made) if attention.has_attention(targets) else made)


def _divide(unit: SourceUnit) -> list[SourceUnit]:
    unit = paddle.renamed(torch.renamed(keras.renamed(unit)))
    if unit.framework == "tensorflow":
        unit = tensorflow.renamed(unit)
    scopes = dict.fromkeys(leaf.rpartition("/")[0] for leaf in unit.leaves)
    if set(scopes) - {""}:  # the unit consists of several layers
        return [one for scope in scopes for one in _divide(_below(unit, scope))]
    return next((made for rule in _DIVIDERS if (made := rule(unit)) != [unit]), [unit])


def _below(unit: SourceUnit, scope: str) -> SourceUnit:
    leaves: dict[str, SourceTensor] = {}
    for leaf, tensor in unit.leaves.items():
        place, _, own = leaf.rpartition("/")
        if place == scope:
            leaves[own] = tensor
    return replace(unit, name=under(unit.name, scope), leaves=leaves)


def other_forms(unit: SourceUnit) -> Iterator[list[SourceUnit]]:
    """Other forms of a unit that fits no layer: a separate unit for each tensor, or the layers of a stack."""
    if len(unit.leaves) > 1:
        yield [
            replace(unit, name=under(unit.name, leaf), leaves={leaf: tensor}) for leaf, tensor in unit.leaves.items()
        ]
    yield from flax.unstacked(unit)
