"""PaddlePaddle's `.pdparams`, and other pickles of named arrays."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from frostline.porting.readers import state_dict, torch_legacy
from frostline.porting.readers.checkpoint_entries import find_weights
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.numpy_pickles import NAMES, LazyArray, array_of
from frostline.porting.readers.pickle_machine import Tape, interpret
from frostline.porting.readers.pickle_values import RecordedCall
from frostline.porting.readers.tensor_data import check_names

if TYPE_CHECKING:
    from collections.abc import Container

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
PARAMETER_NAMES = "StructuredToParameterName@@"  # the entry with Paddle's internal names of the tensors
_ALLOWED = NAMES | {"builtins.tuple", "__builtin__.tuple", "collections.OrderedDict"}
_REMEDY = (
    "where the file was made, save the arrays alone: torch.save(model.state_dict(), path), "
    "paddle.save(layer.state_dict(), path), or numpy.savez(path, **arrays)."
)
_STATISTICS = ("_mean", "_variance")


def claims(file: WeightFile) -> bool:
    """Whether the file is a pickle of protocol 2 to 5, and not one of PyTorch."""
    start = file.start(2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5 and not torch_legacy.claims(file)


def read(file: WeightFile, key: str | None = None) -> Source:
    """The named arrays of a pickle.

    Args:
        file: A file of `paddle.save`, or another pickle of named arrays.
        key: The entry that contains the weights; None searches the usual names.

    Raises:
        PortError: If the pickle is damaged, or contains more than arrays.
    """
    tape = Tape(file, file.read_at, 0, file.size)
    whole = interpret(tape, _ALLOWED, _REMEDY)
    if tape.at != tape.end:
        raise file.damaged(f"{tape.end - tape.at} bytes after the end of the pickle")
    pairs: list[object] = []

    def inside(value: object) -> LazyArray | None:
        if isinstance(value, RecordedCall) and value.name.endswith(".tuple") and value.arguments:
            value = value.arguments[0]
        if (
            isinstance(value, tuple)
            and len(pair := cast("tuple[object, ...]", value)) == 2
            and isinstance(pair[0], str)
        ):
            pairs.append(value)
            value = pair[1]
        return array_of(tape, value) if isinstance(value, RecordedCall) else None

    chosen = find_weights(file, whole, key, inside)
    is_paddle = (
        bool(pairs)
        or PARAMETER_NAMES in cast("dict[object, object]", whole)
        or any(name.endswith(_STATISTICS) for name in chosen.tensors)
    )
    check_names(file, list(chosen.tensors))
    names = state_dict.named(file, list(chosen.tensors), chosen.prefix)
    again = {name: "repeated" for name in chosen.tensors if _is_repeated(name, chosen.tensors)}
    tensors = tuple(
        _tensor(name, held, *names.places[name], is_paddle=is_paddle)
        for name, held in chosen.tensors.items()
        if name in names.places and name not in again
    )
    notes = (*chosen.notes, *names.notes)
    if not is_paddle:
        notes = (*notes, "The file does not state its framework: the layout of its arrays is unknown.")
    return Source(
        "PaddlePaddle weights" if is_paddle else "pickle of arrays", "paddle" if is_paddle else "numpy", tensors,
        dropped=MappingProxyType({**chosen.dropped, **names.dropped, **again}), notes=notes,
    )  # fmt: skip


_CELL = re.compile(r"(.*)\.(\d+)\.cell(_fw|_bw)?\.((?:weight|bias)_(?:ih|hh))")


def _is_repeated(name: str, names: Container[str]) -> bool:
    """Whether this is the second name of a tensor in a recurrent layer: `lstm.0.cell.bias_ih` of `lstm.bias_ih_l0`."""
    found = _CELL.fullmatch(name)
    if found is None:
        return False
    owner, layer, direction, leaf = found.groups()
    return f"{owner}.{leaf}_l{layer}{'_reverse' if direction == '_bw' else ''}" in names


def _tensor(name: str, held: LazyArray, unit: str, leaf: str, *, is_paddle: bool) -> SourceTensor:
    """One array. uint16 stands for bfloat16: Paddle has no 16-bit unsigned integers and stores bfloat16 as such."""
    if not is_paddle or held.dtype != "uint16":
        return SourceTensor(name, held.shape, held.dtype, unit, leaf, held.load)
    import torch

    def load() -> Tensor:
        return held.load().view(torch.bfloat16)

    return SourceTensor(name, held.shape, "bfloat16", unit, leaf, load)
