"""MatConvNet networks in MATLAB files: sequences (SimpleNN) and graphs (DagNN)."""

from __future__ import annotations

import math
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from frostline.porting.readers import mat5
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.readers.numpy_pickles import LazyArray
from frostline.porting.readers.tensor_data import check_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
_HDF5_TEXT = b"MATLAB 7.3 MAT-file"
_LEAVES = {
    "conv": ("filters", "biases"), "convt": ("filters", "biases"), "bnorm": ("multipliers", "biases", "moments"),
    "dagnn.Conv": ("filters", "biases"), "dagnn.ConvTranspose": ("filters", "biases"),
    "dagnn.BatchNorm": ("multipliers", "biases", "moments"),
}  # fmt: skip
_VECTORS = ("biases", "multipliers")
_MOMENTS = ("mean", "sigma")  # the columns of the moments; sigma is sqrt(variance + epsilon)
_MAX_SETTING = 16  # numbers in one setting of a layer, such as four for padding


class _Part(NamedTuple):
    """One array of a layer."""

    name: str
    unit: str
    leaf: str
    held: LazyArray


def claims(file: WeightFile) -> bool:
    """Whether the file begins with the header of a MATLAB file of version 5, 7 or 7.3."""
    start = file.start(mat5.HEADER_BYTES)
    if start.startswith(_HDF5_TEXT):
        return True
    return len(start) == mat5.HEADER_BYTES and start[124:] in (b"\0\1IM", b"\1\0MI") and start[:6] == b"MATLAB"


def read(file: WeightFile, key: str | None = None) -> Source:
    """The arrays of a network, or the arrays of any other MATLAB file.

    Args:
        file: A MATLAB file of version 5 or 7.
        key: The variable with the network; with None the variables `layers` and `net` are searched.

    Raises:
        PortError: If the file is damaged, has another version, or contains objects or functions.
    """
    if file.start(len(_HDF5_TEXT)) == _HDF5_TEXT:
        raise file.refused(
            "MATLAB files of version 7.3 are not supported.", "a MATLAB file of version 7.3 (HDF5)",
            "in MATLAB, save it in version 7: net = load('FILE'); save('NEW', '-struct', 'net', '-v7').",
        )  # fmt: skip
    found = mat5.variables(file)
    name = key if key is not None else "net" if "net" in found and "layers" not in found else None
    if name is not None:
        inside = found.get(name)
        if not isinstance(inside, list) or len(inside) != 1 or not isinstance(inside[0], dict):
            raise file.refused(
                f"The file has no network in the variable {name!r}.", f"variables {', '.join(found)}"[:200],
                "pass key= the name of the variable with the network, or leave the key out.",
            )  # fmt: skip
        found = cast("dict[str, Any]", inside[0])
    layers = found.get("layers")
    if not isinstance(layers, list):
        return _arrays(file, found)
    is_graph = all(isinstance(one, dict) and "block" in one for one in layers) and isinstance(found.get("params"), list)
    parts, described = _graph(found) if is_graph else _chain(file, layers)
    parts = list(parts)
    check_names(file, [one.name for one in parts])
    tensors = tuple(tensor for one in parts for tensor in _tensors(file, one))
    kind = "DagNN" if is_graph else "SimpleNN"
    return Source(f"MatConvNet {kind} (MATLAB)", "matconvnet", tensors, "graph", tuple(described))


def _tensors(file: WeightFile, part: _Part) -> Iterator[SourceTensor]:
    """The tensors of one array: two for the moments of a BatchNorm, otherwise one.

    Axes that MATLAB cannot store are restored: it has no vectors, and drops trailing axes of size 1.
    """
    stored = part.held.shape
    if part.leaf == "moments":
        if len(stored) != 2 or stored[1] != 2:
            raise file.damaged(f"BatchNorm moments of the shape {stored[:8]}")
        for at, leaf in enumerate(_MOMENTS):
            load = partial(_column, part.held, at)
            yield SourceTensor(f"{part.name}.{leaf}", stored[:1], part.held.dtype, part.unit, leaf, load)
        return
    shape = (math.prod(stored),) if part.leaf in _VECTORS else stored
    if part.leaf == "filters":
        shape = (*stored, *(1,) * (4 - len(stored)))
    yield SourceTensor(part.name, shape, part.held.dtype, part.unit, part.leaf, lambda: part.held.load().reshape(shape))


def _column(held: LazyArray, at: int) -> Tensor:
    return held.load()[:, at].contiguous()


def _arrays(file: WeightFile, found: Mapping[str, Any]) -> Source:
    """The arrays of a file that contains no network, by name."""
    held = {name: value for name, value in found.items() if isinstance(value, LazyArray)}
    check_names(file, list(held))
    tensors = tuple(SourceTensor(name, one.shape, one.dtype, "", name, one.load) for name, one in held.items())
    note = "The file contains no MatConvNet network: its arrays are listed, and their layout is unknown."
    return Source("MATLAB arrays", "numpy", tensors, notes=(note,))


def _chain(file: WeightFile, layers: list[Any]) -> tuple[list[_Part], list[SourceLayer]]:
    """The layers of a SimpleNN; each takes the output of the one before."""
    parts: list[_Part] = []
    described: list[SourceLayer] = []
    seen: set[str] = set()
    for index, one in enumerate(layers):
        settings = _only(one)
        if settings is None:
            raise file.damaged(f"the layer {index} is not a structure")
        kind = _text(settings.get("type"))
        name = _text(settings.get("name")) or str(index)
        unit = name if name not in seen else f"{name}_{index}"
        seen.add(unit)
        weights = settings.get("weights")
        stated = (
            enumerate(cast("list[Any]", weights))
            if isinstance(weights, list)
            else ((at, settings.get(leaf)) for at, leaf in enumerate(("filters", "biases")))
        )
        leaves = _LEAVES.get(kind, ())
        for at, value in stated:
            if isinstance(value, LazyArray):
                leaf = leaves[at] if at < len(leaves) else f"weights{at}"
                parts.append(_Part(f"{unit}.{leaf}", unit, leaf, value))
        before = (described[-1].name,) if described else ()
        described.append(SourceLayer(unit, kind, _settings(settings), before))
    return parts, described


def _graph(found: Mapping[str, Any]) -> tuple[list[_Part], list[SourceLayer]]:
    """The layers of a DagNN, with named parameters and variables."""
    values = {_text(one.get("name")): one.get("value") for one in found["params"] if isinstance(one, dict)}
    parts: dict[str, _Part] = {}
    described: list[SourceLayer] = []
    producers: dict[str, str] = {}
    for one in found["layers"]:
        unit, kind = _text(one.get("name")), _text(one.get("type"))
        leaves = _LEAVES.get(kind, ())
        for at, name in enumerate(_texts(one.get("params"))):
            held = values.get(name)
            if isinstance(held, LazyArray) and name not in parts:
                parts[name] = _Part(name, unit, leaves[at] if at < len(leaves) else f"params{at}", held)
        inputs = tuple(producers[name] for name in _texts(one.get("inputs")) if name in producers)
        producers.update((name, unit) for name in _texts(one.get("outputs")))
        described.append(SourceLayer(unit, kind, _settings(_only(one.get("block")) or {}), inputs))
    for name, held in values.items():
        if isinstance(held, LazyArray) and name not in parts:
            parts[name] = _Part(name, "", name, held)
    return list(parts.values()), described


def _only(value: Any) -> dict[str, Any] | None:
    """The element of a structure with a single one, possibly inside of a cell; otherwise None."""
    while isinstance(value, list) and len(cast("list[Any]", value)) == 1:
        value = value[0]
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> Iterator[str]:
    """The strings of a cell, or a single string."""
    yield from [value] if isinstance(value, str) else [one for one in value or [] if isinstance(one, str)]


def _settings(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a layer: strings, and short arrays of numbers."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            found[name] = value
        elif isinstance(value, LazyArray) and 0 < math.prod(value.shape) <= _MAX_SETTING:
            numbers = value.load().flatten().tolist()
            found[name] = numbers[0] if len(numbers) == 1 else numbers
    return MappingProxyType(found)
