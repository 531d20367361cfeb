"""PaddlePaddle's `.pdiparams`: raw tensors, whose names are in the program beside the file.

The program is `.pdmodel` (a protocol buffer), or `.json` since PaddlePaddle 3. Beside a `.pdmodel`, `.pdiparams.info`
may contain the names of the tensors in the module.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from frostline.porting.readers import strict_json
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.pickle_machine import Tape, interpret
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.tensor_data import MAX_TENSORS, check_names, num_bytes, tensor_of
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_HEAD = struct.Struct("<IQIi")  # version, level of detail (sequences), version of the tensor, size of its TensorDesc
_DTYPES = {
    0: "bool", 1: "int16", 2: "int32", 3: "int64", 4: "float16", 5: "float32", 6: "float64", 20: "uint8", 21: "int8",
    22: "bfloat16", 23: "complex64", 24: "complex128", 32: "float8_e4m3fn", 33: "float8_e5m2",
}  # fmt: skip
_PIR_DTYPES = {
    "f64": 6, "f32": 5, "f16": 4, "bf16": 22, "i64": 3, "i32": 2, "i16": 1, "i8": 21, "ui8": 20, "bool": 0, "c64": 23,
    "c128": 24, "f8e4m3fn": 32, "f8e5m2": 33,
}  # fmt: skip
_MAX_DESCRIPTION = 1_024
# Paddle numbers the parameters of a layer (`w_0`, `w_1`); their roles depend on the kind of the layer.
_LEAVES = {"w_0": "weight", "b_0": "bias"}
_NOT_KEPT = "__non_persistable"  # suffix of the dropout state of recurrent layers, which is not stored
_BATCH_NORM_LEAVES = {**_LEAVES, "w_1": "_mean", "w_2": "_variance"}


class _Parameter(NamedTuple):
    """One tensor in a program."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class _Program(NamedTuple):
    """The content of a program.

    Attributes:
        parameters: Every tensor that is stored in the file of weights.
        used: The names of the tensors in order of use.
        places: Unit and leaf of the tensors of recurrent layers, which Paddle numbers by cells.
    """

    parameters: list[_Parameter]
    used: list[str]
    places: dict[str, tuple[str, str]]


class _Stored(NamedTuple):
    """Dtype, shape and range of a tensor in the file."""

    shape: tuple[int, ...]
    dtype: str
    begin: int
    size: int


def claims(file: WeightFile) -> bool:
    """Whether the file begins with the header of a PaddlePaddle tensor."""
    start = file.start(_HEAD.size + 1)
    if len(start) <= _HEAD.size:
        return False
    version, levels, tensor_version, size = _HEAD.unpack(start[:-1])
    return (version, tensor_version) == (0, 0) and levels < 8 and 2 <= size <= _MAX_DESCRIPTION and start[-1] == 8


def read(file: WeightFile) -> Source:
    """Every tensor of the file, with the names of the program beside it.

    Args:
        file: The parameters, such as `inference.pdiparams`. The program with the same name is searched beside it.

    Raises:
        PortError: If the file is damaged, or does not fit the program.
    """
    stored = _tensors(file)
    program = _program(file)
    if program is None:
        names = [f"tensor_{index}" for index in range(len(stored))]
        note = "There is no program (.pdmodel or .json) beside the file: its tensors have no names."
        tensors = tuple(_tensor(file, name, one, name, "") for name, one in zip(names, stored, strict=True))
        return Source("PaddlePaddle inference parameters", "paddle", tensors, notes=(note,))
    parameters = sorted(
        one for one in program.parameters if not one.name.endswith(_NOT_KEPT)
    )  # Paddle stores them in this order
    check_names(file, [one.name for one in parameters])
    if [(one.shape, one.dtype) for one in parameters] != [(one.shape, one.dtype) for one in stored]:
        raise file.damaged(
            f"{len(stored)} tensors that do not fit the {len(parameters)} tensors in the program beside the file"
        )
    modules = _module_names(file)
    found = {
        one.name: _tensor(file, one.name, held, *(program.places.get(one.name) or _place(one.name, modules)))
        for one, held in zip(parameters, stored, strict=True)
    }
    in_order = [name for name in dict.fromkeys(program.used) if name in found]
    rest = [name for name in found if name not in set(in_order)]
    return Source(
        "PaddlePaddle inference parameters", "paddle", tuple(found[name] for name in (*in_order, *rest)), "graph",
        notes=("The names were read from the .pdiparams.info beside the file.",) if modules else (),
    )  # fmt: skip


def _tensors(file: WeightFile) -> list[_Stored]:
    """The ranges of all tensors, which must cover the whole file."""
    found: list[_Stored] = []
    at = 0
    while at < file.size:
        version, levels, tensor_version, size = _HEAD.unpack(file.read_at(at, _HEAD.size))
        if version or levels or tensor_version or not 0 < size <= _MAX_DESCRIPTION or len(found) >= MAX_TENSORS:
            raise file.damaged(f"no tensor header at byte {at}")
        at += _HEAD.size
        message = Wire(file, file.read_at(at, size)).message()
        dtype, shape = _described(file, message)
        count = num_bytes(file, shape, dtype)
        at += size
        if count > file.size - at:
            raise file.damaged(f"a tensor of {count} bytes, where {file.size - at} are left")
        found.append(_Stored(shape, dtype, at, count))
        at += count
    return found


def _described(file: WeightFile, message: Message) -> tuple[str, tuple[int, ...]]:
    """Dtype and shape of a TensorDesc."""
    dtype = _DTYPES.get(message.integer(1))
    if dtype is None:
        raise file.damaged(f"a tensor of the unknown dtype {message.integer(1)}")
    return dtype, tuple(message.integers(2))


def _tensor(file: WeightFile, name: str, held: _Stored, unit: str, leaf: str) -> SourceTensor:
    def load() -> Tensor:
        return tensor_of(file, file.array_at(held.begin, held.size), held.shape, held.dtype)

    return SourceTensor(name, held.shape, held.dtype, unit, leaf, load)


def _place(name: str, modules: dict[str, str]) -> tuple[str, str]:
    """Unit and leaf of a tensor: from its name in the module if known, otherwise from Paddle's (`conv2d_0.w_0`)."""
    if name in modules:
        unit, _, leaf = modules[name].rpartition(".")
        return unit.replace(".", "/"), leaf
    unit, _, leaf = name.rpartition(".")
    leaves = _BATCH_NORM_LEAVES if unit.startswith(("batch_norm", "sync_batch_norm")) else _LEAVES
    return (unit, leaves.get(leaf, leaf)) if unit else (name, "")


def _program(file: WeightFile) -> _Program | None:
    """The program beside the file; None if there is none."""
    stem = file.path.name.removesuffix(".pdiparams")
    readers: list[tuple[str, Callable[[WeightFile], _Program]]] = [
        (f"{stem}.pdmodel", _protobuf_program), (f"{stem}.json", _json_program),
        ("__model__", _protobuf_program),
    ]  # fmt: skip
    for name, reader in readers:
        if (name != "__model__" or stem in ("__params__", "params")) and (file.path.parent / name).is_file():
            with neighbour(file, name) as program:
                return reader(program)
    return None


def _cells(state: str, weights: list[str], *, is_bidirectional: bool) -> dict[str, tuple[str, str]]:
    """Unit and leaf of a recurrent layer's tensors: two weights for each cell, then two biases for each.

    Args:
        state: The name of its dropout state, whose prefix is the name of the layer.
        weights: The names of the tensors in the order of the operator: by layer and direction.
        is_bidirectional: Whether every second cell runs backwards.
    """
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    found: dict[str, tuple[str, str]] = {}
    for index, name in enumerate(weights if len(weights) % 4 == 0 else ()):
        is_bias, rest = divmod(index, len(weights) // 2)
        layer, direction = divmod(rest // 2, 1 + is_bidirectional)
        leaf = f"{kinds[2 * is_bias + rest % 2]}_l{layer}{'_reverse' if direction else ''}"
        found[name] = (state.partition(".")[0], leaf)
    return found


def _protobuf_program(program: WeightFile) -> _Program:
    """The content of a ProgramDesc: the persistent tensors of its first block, and the inputs of its operators."""
    block = next(Wire(program).message().messages(1), None)
    if block is None:
        raise program.damaged("a program without a block")
    parameters: list[_Parameter] = []
    for variable in block.messages(3):
        kind = variable.message(2)
        tensor = kind.message(3) if kind is not None and variable.integer(3) else None
        described = tensor.message(1) if tensor is not None else None
        if described is not None:
            dtype, shape = _described(program, described)
            parameters.append(_Parameter(variable.text(1), shape, dtype))
    used: list[str] = []
    places: dict[str, tuple[str, str]] = {}
    for operator in block.messages(4):
        taken = {one.text(1): one.texts(2) for one in operator.messages(1)}
        used += [name for names in taken.values() for name in names]
        if operator.text(3) == "rnn":
            states = [name for one in operator.messages(2) if one.text(1) == "DropoutState" for name in one.texts(2)]
            attributes = {one.text(1): one for one in operator.messages(4)}
            both = "is_bidirec" in attributes and attributes["is_bidirec"].integer(10)
            places |= _cells("".join(states[:1]), list(taken.get("WeightList", ())), is_bidirectional=bool(both))
    return _Program(parameters, used, places)


def _json_program(program: WeightFile) -> _Program:
    """The content of a JSON program (PaddlePaddle 3): its operators `p`, and the inputs of the others."""
    whole = strict_json.parse(program, program.read_at(0, min(program.size, strict_json.MAX_BYTES + 1)))
    parameters: list[_Parameter] = []
    used: list[str] = []
    names: dict[int, list[str]] = {}
    places: dict[str, tuple[str, str]] = {}
    try:
        operators = whole["program"]["regions"][0]["blocks"][0]["ops"]
        for operator in operators:
            if operator["#"] == "p":
                kind, shape = operator["O"]["TT"]["D"][:2]
                dtype = _DTYPES[_PIR_DTYPES[kind["#"].removeprefix("0.t_")]]
                name = str(operator["A"][3])
                names[operator["O"]["%"]] = [name]
                parameters.append(_Parameter(name, tuple(shape), dtype))
            else:
                taken = [names.get(one["%"], []) for one in cast("Iterable[Any]", operator.get("I", ()))]
                held = [name for one in taken for name in one]
                if operator["#"].endswith(".combine"):
                    names[operator["O"][0]["%"]] = held
                    continue
                used += held
                if operator["#"].endswith(".rnn"):
                    stated = {one["N"]: one["AT"]["D"] for one in operator["A"]}
                    state = next((one[0] for one in reversed(taken) if len(one) == 1), "")
                    weights = max(taken, key=len, default=[])
                    places |= _cells(state, weights, is_bidirectional=stated.get("is_bidirec") is True)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise program.damaged("JSON that is not a PaddlePaddle program") from error
    return _Program(parameters, used, places)


def _module_names(file: WeightFile) -> dict[str, str]:
    """The names of the tensors in the module, by Paddle's internal names; empty if they are not stored."""
    name = f"{file.path.name}.info"
    if not (file.path.parent / name).is_file():
        return {}
    with neighbour(file, name) as info:
        stated = interpret(
            Tape(info, info.read_at, 0, info.size), (), "delete the .pdiparams.info file: the port does not need it."
        )
    if not isinstance(stated, dict):
        return {}
    found = {
        str(own): entry.get("structured_name")
        for own, entry in cast("dict[Any, Any]", stated).items()
        if isinstance(entry, dict)
    }
    named = {own: given for own, given in found.items() if isinstance(given, str)}
    return named if len(set(named.values())) == len(named) else {}
