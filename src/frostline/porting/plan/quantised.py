"""Weights that a file stores as integers: these stand for other numbers, and are never written as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.core.errors import PortError
from frostline.porting.units.unit import is_layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.layouts.layout import Move
    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_PACKED = ("qweight", "qzeros")  # GPTQ and AWQ: eight numbers of four bits in one integer
_MAX_AXES = 3  # a mask of uint8 beside the weights of an attention has four


def without_integers(
    path: str, units: Sequence[SourceUnit], targets: Sequence[TargetUnit],
    table: Mapping[str, Mapping[str, tuple[Move, ...]]],
) -> dict[str, dict[str, tuple[Move, ...]]]:  # fmt: skip
    """The pairs that fit, without those that would write integers into floating-point parameters.

    Args:
        path: Path of the file.
        units: Layers of the file.
        targets: Layers of the module.
        table: The moves of each pair that fits.

    Raises:
        PortError: If a layer of the file fits layers of the module in this way only.
    """
    by_target = {target.name: target for target in targets}
    found: dict[str, dict[str, tuple[Move, ...]]] = {}
    for unit in units:
        integers = {leaf: tensor for leaf, tensor in unit.leaves.items() if _is_integer(tensor)}
        row = table[unit.name]
        if not integers:
            found[unit.name] = dict(row)
            continue
        written = {name: _written(moves, by_target[name], integers) for name, moves in row.items()}
        found[unit.name] = {name: moves for name, moves in row.items() if not written[name]}
        is_layer_of_them = any(leaves and is_layer(by_target[name].module) for name, leaves in written.items())
        if not found[unit.name] and is_layer_of_them:
            raise _refused(path, unit, list(next(leaves for leaves in written.values() if leaves)))
    return found


def _written(moves: Sequence[Move], target: TargetUnit, integers: Mapping[str, SourceTensor]) -> list[SourceTensor]:
    """Of some tensors those that are written into floating-point parameters."""
    leaves = [leaf for move in moves if _is_float(target, move.target) for leaf in move.sources]
    return [integers[leaf] for leaf in leaves if leaf in integers]


# Integers stand for other numbers. A scale is applied only where the format states it beside them: operators on
# integers also round, and no module of floats gives their output.
def refuse_integers_alone(path: str, units: Sequence[SourceUnit]) -> None:
    """Refuse layers without a partner whose weights are integers: another module would not help.

    Args:
        path: Path of the file.
        units: Layers of the file without a partner.

    Raises:
        PortError: For the first such layer.
    """
    for unit in units:
        tensors = [tensor for leaf, tensor in unit.leaves.items() if _is_quantised(unit, leaf, tensor)]
        if tensors:
            raise _refused(path, unit, tensors)


def _is_integer(tensor: SourceTensor) -> bool:
    return tensor.dtype.startswith(("int", "uint"))


def _is_quantised(unit: SourceUnit, leaf: str, tensor: SourceTensor) -> bool:
    if tensor.dtype == "uint8":
        return unit.framework == "onnx" or 1 < len(tensor.shape) <= _MAX_AXES
    return (tensor.dtype == "int8" and tensor.shape != ()) or (leaf in _PACKED and _is_integer(tensor))


def _is_float(target: TargetUnit, own: str) -> bool:
    """Whether a tensor of a layer is a floating-point parameter, or computed from such."""
    tensor = target.tensors[own]
    is_buffer = own in target.module._buffers and not isinstance(tensor, nn.Parameter)
    return tensor.dtype.is_floating_point and not is_buffer


def _refused(path: str, unit: SourceUnit, tensors: Sequence[SourceTensor]) -> PortError:
    held = ", ".join(f"{tensor.name!r} in {tensor.dtype}" for tensor in tensors)
    return PortError(
        what=f"The weights of {unit.name or 'a layer'!r} are stored as integers, as quantised networks have them.",
        where=path, received=f"{held}: whole numbers that stand for others by a scale",
        do="save or export the network before it is quantised, in float32 (before quantize_dynamic or quantize_static "
        "of ONNX Runtime, model.quantize of Keras, load_in_8bit of transformers), and port that file; if the weights "
        "are whole numbers themselves, save them as float32.",
    )  # fmt: skip
