"""Units of TensorFlow 1 with the leaves of Keras; cells have one kernel for input and state."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.units.forms.joined import joined
from frostline.porting.units.forms.parts import rows, under

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.readers.contract import SourceTensor
    from frostline.porting.units.unit import SourceUnit

_LEAVES = {"weights": "kernel", "biases": "bias", "w": "kernel", "W": "kernel", "Matrix": "kernel", "b": "bias",
           "depthwise_weights": "depthwise_kernel", "pointwise_weights": "pointwise_kernel",
           "embedding": "embeddings"}  # fmt: skip
_WEIGHT, _BIAS = (
    re.compile(rf"(?:{words})_?(?P<after>.+)|(?P<before>.+)_(?:{words})")
    for words in ("weights?|kernel|[wW]", "biases|bias|[bB]")
)
_TABLE = re.compile(r"\w+_embeddings|embedding_table|full_position_embeddings")
_OF_GRU = ("gates", "candidate")


def renamed(unit: SourceUnit) -> SourceUnit:
    """The unit with the leaves of Keras; the kernel of an LSTM cell is divided into those of input and state."""
    names = {leaf: _LEAVES.get(leaf, leaf) for leaf in unit.leaves}
    if len(set(names.values())) < len(names):
        return unit
    leaves = {names[leaf]: tensor for leaf, tensor in unit.leaves.items()}
    is_cell = unit.name.endswith("lstm_cell") and "recurrent_kernel" not in leaves
    if is_cell and "kernel" in leaves and len(leaves["kernel"].shape) == 2:
        kernel = leaves.pop("kernel")
        leaves |= _halves("kernel", kernel, kernel.shape[1] // 4)
    return replace(unit, leaves=leaves)


def divide(unit: SourceUnit) -> list[SourceUnit]:
    """The layers of a scope that holds several: tables of embeddings, as BERT has them, or `wc1`, `bc1`, `wc2`, ..."""
    if unit.framework == "tensorflow" and (layers := _numbered(unit)):
        return layers
    tables = {leaf: one for leaf, one in unit.leaves.items() if _TABLE.fullmatch(leaf) and len(one.shape) == 2}
    if unit.framework != "tensorflow" or not tables:
        return [unit]
    rest = {leaf: tensor for leaf, tensor in unit.leaves.items() if leaf not in tables}
    made = [replace(unit, name=f"{unit.name}/{leaf}", leaves={"embeddings": one}) for leaf, one in tables.items()]
    return [*made, replace(unit, leaves=rest)] if rest else made


def _numbered(unit: SourceUnit) -> list[SourceUnit]:
    """The layers of a scope in which all names begin or end with what they are; empty if it is none."""
    shapes = {leaf: tensor.shape for leaf, tensor in unit.leaves.items()}
    kernels = {name: leaf for leaf, shape in shapes.items() if len(shape) > 1 and (name := _rest(_WEIGHT, leaf))}
    biases = {name: leaf for leaf, shape in shapes.items() if len(shape) == 1 and (name := _rest(_BIAS, leaf))}
    are_pairs = all(name in kernels and shapes[leaf] == shapes[kernels[name]][-1:] for name, leaf in biases.items())
    is_whole = len(kernels) + len(biases) == len(shapes)
    if not biases or not are_pairs or not is_whole:
        return []
    made: list[SourceUnit] = []
    for name, leaf in kernels.items():
        leaves = {"kernel": replace(unit.leaves[leaf], leaf="w")}  # (in, out) or (out, in), as any `w`
        if name in biases:
            leaves["bias"] = unit.leaves[biases[name]]
        made.append(replace(unit, name=under(unit.name, name), leaves=leaves))
    return made


def _rest(pattern: re.Pattern[str], leaf: str) -> str:
    """The name of a layer, without the word for its kernel or its bias; empty if there is no such word."""
    found = pattern.fullmatch(leaf)
    return (found["after"] or found["before"]) if found else ""


def with_gru_cells(units: Sequence[SourceUnit]) -> list[SourceUnit]:
    """The units; the gates and the candidate of each GRU cell are joined."""
    return [_gru(unit) for unit in joined(units, _OF_GRU)]


def _gru(unit: SourceUnit) -> SourceUnit:
    if unit.framework != "tensorflow" or set(unit.leaves) != {
        f"{p}/{leaf}" for p in _OF_GRU for leaf in ("kernel", "bias")
    }:
        return unit
    size = unit.leaves["candidate/bias"].shape[0]
    leaves = {f"{part}_bias": unit.leaves[f"{part}/bias"] for part in _OF_GRU}
    for part in _OF_GRU:
        leaves |= _halves(part, unit.leaves[f"{part}/kernel"], size)
    return replace(unit, leaves=leaves)


def _halves(name: str, kernel: SourceTensor, size: int) -> dict[str, SourceTensor]:
    """The rows of a kernel for the input and those for the state, as separate tensors."""
    inputs = kernel.shape[0] - size
    return {f"{name}_of_input": rows(kernel, 0, inputs), f"{name}_of_state": rows(kernel, inputs, kernel.shape[0])}
