"""MXNet's `.params`: arrays, followed by their names; the graph is in a `-symbol.json` beside the file."""

from __future__ import annotations

import re
import struct
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from frostline.porting.readers import strict_json
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.tensor_data import (
    MAX_AXES,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    check_names,
    num_bytes,
    tensor_of,
)
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_MAGIC, _V1, _V2, _V3 = 0x112, 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_TVM_MAGIC = 0xF7E58D4F05049CB7
_DTYPES = (
    "float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool", "int16", "uint16", "uint32", "uint64",
    "bfloat16",
)  # fmt: skip
_LEAF = re.compile(
    r"(.*?)[_.]((?:[lr]\d+_)?(?:i2h|h2h|h2r)_(?:weight|bias)|weight|bias|gamma|beta|alpha|"
    r"(?:moving|running)_(?:mean|var))"
)
_EPOCH = re.compile(r"-\d{4}\.params")


class _Stored(NamedTuple):
    """Dtype, shape and range of an array in the file."""

    shape: tuple[int, ...]
    dtype: str
    begin: int
    size: int


def claims(file: WeightFile) -> bool:
    """Whether the file begins with the magic number of MXNet for lists of arrays, or with that of TVM."""
    start = file.start(8)
    return len(start) == 8 and int.from_bytes(start, "little") in (_MAGIC, _TVM_MAGIC)


def read(file: WeightFile) -> Source:
    """Every array of the file, with the graph beside it if there is one.

    Args:
        file: A file of `save_parameters`, `save_checkpoint` or `export`.

    Raises:
        PortError: If the file is damaged, contains sparse arrays, or was written by TVM.
    """
    if int.from_bytes(file.start(8), "little") == _TVM_MAGIC:
        raise file.refused(
            "Parameters compiled by TVM are not supported.", "TVM's magic number at the start of the file",
            "port the original file, before TVM compiled it and changed its layouts.",
        )  # fmt: skip
    found = _arrays(file)
    graph = _graph(file, found)
    tensors = {
        name: _tensor(file, name, one, *graph.places.get(name, _place(name)), is_one=name in graph.ones)
        for name, one in found.items()
    }
    notes: tuple[str, ...] = ()
    if graph.ones:
        notes = (f"{len(graph.ones)} BatchNorm layers have fix_gamma: their gamma is 1; stored values were not used.",)
    elif not graph.layers and any(name.endswith("gamma") for name in found):
        notes = ("There is no -symbol.json beside the file. It would state which BatchNorm layers have fix_gamma (the "
                 "default of MXNet symbols) and ignore their stored gamma.",)  # fmt: skip
    in_order = (*graph.places, *(name for name in found if name not in graph.places))
    return Source(
        "MXNet parameters", "mxnet", tuple(tensors[name] for name in in_order), "graph" if graph.layers else "file",
        graph.layers, notes=notes,
    )  # fmt: skip


def _arrays(file: WeightFile) -> dict[str, _Stored]:
    """The range of each array, by name without the prefix that distinguishes parameters from statistics."""
    at, stored = 24, list[_Stored]()
    _, reserved, count = struct.unpack("<3Q", file.read_at(0, at))
    if reserved or count > MAX_TENSORS:
        raise file.damaged(f"a list with {count} arrays")
    for _ in range(count):
        stored.append(_array(file, at))
        at = stored[-1].begin + stored[-1].size
    names = _names(file, at, count) or [f"array_{index}" for index in range(count)]
    names = [name.removeprefix("arg:").removeprefix("aux:") for name in names]
    check_names(file, names)
    return dict(zip(names, stored, strict=True))


def _array(file: WeightFile, at: int) -> _Stored:
    """One array: in the format of MXNet 1.0 (`V2`), 2.0 (`V3`), 0.11 (`V1`), or before."""
    (magic,) = struct.unpack("<I", file.read_at(at, 4))
    at += 4
    if magic in (_V2, _V3):
        (storage,) = struct.unpack("<i", file.read_at(at, 4))
        at += 4
        if storage != 0:
            raise file.refused(
                "The file contains sparse arrays, which are not supported.", f"storage type {storage}",
                "where the file was made, save them as dense arrays: array.tostype('default').",
            )  # fmt: skip
    is_newer = magic in (_V1, _V2, _V3)
    num_axes = magic
    if is_newer:
        (num_axes,) = struct.unpack("<i", file.read_at(at, 4))
        at += 4
    if not 0 <= num_axes <= MAX_AXES:
        raise file.damaged(f"an array of {num_axes} axes")
    if num_axes == 0 and magic != _V3:
        raise file.damaged("an array without a shape")
    layout = f"<{num_axes}{'q' if is_newer else 'I'}"
    shape = struct.unpack(layout, file.read_at(at, struct.calcsize(layout)))
    at += struct.calcsize(layout)
    _, _, kind = struct.unpack("<3i", file.read_at(at, 12))
    at += 12
    if not 0 <= kind < len(_DTYPES):
        raise file.damaged(f"an array of the unknown dtype {kind}")
    size = num_bytes(file, shape, _DTYPES[kind])
    if size > file.size - at:
        raise file.damaged(f"an array of {size} bytes, where {file.size - at} are left")
    return _Stored(shape, _DTYPES[kind], at, size)


def _names(file: WeightFile, at: int, num_arrays: int) -> list[str]:
    """The names after the arrays: one for each array, or none at all; the file must end after them."""
    (count,) = struct.unpack("<Q", file.read_at(at, 8))
    at += 8
    if count not in (0, num_arrays):
        raise file.damaged(f"{count} names for {num_arrays} arrays")
    names: list[str] = []
    for _ in range(count):
        (size,) = struct.unpack("<Q", file.read_at(at, 8))
        if size > MAX_NAME_BYTES:
            raise file.damaged(f"a name of {size} bytes")
        names.append(file.read_at(at + 8, size).decode(errors="replace"))
        at += 8 + size
    if at != file.size:
        raise file.damaged(f"{file.size - at} bytes after the last name")
    return names


def _tensor(file: WeightFile, name: str, one: _Stored, unit: str, leaf: str, *, is_one: bool) -> SourceTensor:
    def load() -> Tensor:
        stored = tensor_of(file, file.array_at(one.begin, one.size), one.shape, one.dtype)
        return torch.ones_like(stored) if is_one else stored

    return SourceTensor(name, one.shape, one.dtype, unit, leaf, load)


def _place(name: str) -> tuple[str, str]:
    """Unit and leaf of a name of Gluon (`features.0.weight`) or of a symbol (`stage1_conv0_weight`)."""
    found = _LEAF.fullmatch(name)
    return (found[1].replace(".", "/"), found[2]) if found else ("", name)


class _Graph(NamedTuple):
    """The graph in a `-symbol.json`.

    Attributes:
        layers: Its operators.
        places: Unit and leaf of each array that an operator takes, in order of use.
        ones: Names of gammas that are 1 regardless of the stored values.
    """

    layers: tuple[SourceLayer, ...]
    places: Mapping[str, tuple[str, str]]
    ones: frozenset[str]


def _graph(file: WeightFile, found: Mapping[str, _Stored]) -> _Graph:
    """The graph in the `-symbol.json` beside the file; an empty one if there is none."""
    name = _EPOCH.sub("", file.path.name).removesuffix(".params") + "-symbol.json"
    if not (file.path.parent / name).is_file():
        return _Graph((), MappingProxyType({}), frozenset())
    with neighbour(file, name) as symbols:
        whole = strict_json.parse(symbols, symbols.read_at(0, min(symbols.size, strict_json.MAX_BYTES + 1)))
        try:
            return _operators([dict(node) for node in whole["nodes"]], found)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise symbols.damaged("JSON that is not an MXNet graph") from error


def _operators(nodes: Sequence[dict[str, Any]], found: Mapping[str, _Stored]) -> _Graph:
    layers: list[SourceLayer] = []
    places: dict[str, tuple[str, str]] = {}
    ones: set[str] = set()
    for index, node in enumerate(nodes):
        if node["op"] == "null" and node["name"] in found:
            continue
        taken = [int(one[0]) for one in node["inputs"]]
        if any(not 0 <= one < index for one in taken):
            raise ValueError("a node that takes the output of a later one")
        names = [str(nodes[one]["name"]) for one in taken]
        own = [name for name in names if name in found]
        config = cast("dict[str, str]", node.get("attrs") or node.get("param") or node.get("attr") or {})
        for name in own:
            places.setdefault(name, (str(node["name"]), _place(name)[1]))
        if "BatchNorm" in str(node["op"]) and str(config.get("fix_gamma", "True")) in ("True", "1") and len(names) > 1:
            ones.add(names[1])
        inputs = tuple(name for name in names if name not in found)
        layers.append(SourceLayer(str(node["name"]), str(node["op"]), MappingProxyType(dict(config)), inputs))
    return _Graph(tuple(layers), MappingProxyType(places), frozenset(ones))
