"""Weights that a file stores as integers: these stand for other numbers, and are never written as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.core.errors import PortError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.porting.plan.step import Step
    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit, TargetUnit

_PACKED = ("qweight", "qzeros")  # GPTQ and AWQ: eight numbers of four bits in one integer
_MAX_AXES = 3  # a mask of uint8 beside the weights of an attention has four


def refuse_integers(path: str, steps: Iterable[Step]) -> None:
    """Refuse steps that would write integers into floating-point parameters.

    Args:
        path: Path of the file.
        steps: One for each pair of layers.

    Raises:
        PortError: For the first such pair.
    """
    for step in steps:
        leaves = [leaf for move in step.moves if _is_float(step.target, move.target) for leaf in move.sources]
        tensors = [step.source.leaves[leaf] for leaf in leaves if _is_integer(step.source.leaves[leaf])]
        if tensors:
            raise _refused(path, step.source, tensors)


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
        do="save or export the network before it is quantised, in float32 (before quantize_dynamic or quantize_static of "
        "ONNX Runtime, model.quantize of Keras, load_in_8bit of transformers), and port that file; if the weights are "
        "whole numbers themselves, save them as float32.",
    )  # fmt: skip
