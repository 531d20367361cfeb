"""TensorFlow.js models: `model.json`, and its weights in files beside it, possibly quantised.

References:
    tensorflow/tfjs, `tfjs-core/src/io/io_utils.ts` (decodeWeights): the values of a group follow each other in the
    order of its list; a file may end within a number; a quantised value represents `value * scale + min`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.porting.readers import strict_json
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.keras_graph import code_in, graph, is_model
from frostline.porting.readers.source_names import keras_place, unit_and_leaf
from frostline.porting.readers.tensor_data import DTYPES, check_names, num_bytes, tensor_of
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from frostline.porting.readers.contract import SourceLayer
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_MANIFEST = b'"weightsManifest"'
_DTYPES = {"float32", "float16", "int32", "uint8", "uint16", "bool", "complex64"}
_QUANTISED = {"uint8", "uint16", "float16"}
_MAX_FILES = 10_000


@dataclass(frozen=True)
class _Weight:
    """One weight in a manifest, and how it is stored."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: str
    scale: float
    least: float
    size: int


@dataclass(frozen=True)
class _Group:
    """Files beside the model that form one sequence of bytes.

    Attributes:
        file: The model, for errors.
        files: The files, closed; they must not change after the manifest was read.
        starts: The offset of each file in the sequence, and the end of the last one.
    """

    file: WeightFile
    files: tuple[WeightFile, ...]
    starts: tuple[int, ...]

    def read_at(self, offset: int, count: int) -> bytes:
        """The bytes from `offset`."""
        parts: list[bytes] = []
        for opened, (start, end) in zip(self.files, itertools.pairwise(self.starts), strict=True):
            first, last = max(offset, start), min(offset + count, end)
            if first < last:
                with neighbour(self.file, opened.path.name, opened) as part:
                    parts.append(part.read_at(first - start, last - first))
        return parts[0] if len(parts) == 1 else b"".join(parts)


def claims(file: WeightFile) -> bool:
    """Whether the file is JSON with a weights manifest, or a weights manifest itself."""
    start = file.start(1)
    if start not in (b"{", b"["):
        return False
    text = file.start(strict_json.MAX_BYTES)
    return _MANIFEST in text if start == b"{" else b'"weights"' in text and b'"paths"' in text


def read(file: WeightFile) -> Source:
    """Read a model.

    Args:
        file: The `model.json`, or a manifest alone, as older versions write it.

    Raises:
        PortError: If the file is damaged, names files in other folders, or has weights of an unsupported kind.
    """
    stated = strict_json.parse(file, file.start(strict_json.MAX_BYTES + 1))
    stated = {"weightsManifest": stated, "format": "graph-model"} if isinstance(stated, list) else stated
    manifest = _mapping(file, stated).get("weightsManifest")
    if not isinstance(manifest, list):
        raise file.damaged(f"the weights manifest {str(manifest)[:60]}")
    tensors = [tensor for group in manifest for tensor in _tensors(file, _mapping(file, group))]
    check_names(file, [tensor.name for tensor in tensors])
    units = {tensor.unit for tensor in tensors}
    places = [keras_place(tensor.unit, tensor.leaf, units) for tensor in tensors]
    tensors = [replace(t, unit=unit, leaf=leaf) for t, (unit, leaf) in zip(tensors, places, strict=True)]
    topology = stated.get("modelTopology")
    model = topology.get("model_config", topology) if isinstance(topology, dict) else None
    layers = graph(file, model) if isinstance(model, dict) and is_model(model) else ()
    is_graph = stated.get("format") == "graph-model" or (isinstance(topology, dict) and "node" in topology)
    notes = ["The file contains a graph without layers: weights have the names of the graph."] if is_graph else []
    num_quantised = sum("quantization" in w for g in manifest for w in g["weights"])
    if num_quantised:
        notes.append(
            f"{num_quantised} weights are quantised and were dequantised; the file does not contain the original "
            "weights."
        )
    return Source(
        "TensorFlow.js model", "tensorflow" if is_graph else "keras", _in_order(tensors, layers),
        order="graph" if layers else "file", layers=layers, notes=(*notes, *code_in(model)),
    )  # fmt: skip


def _in_order(tensors: Sequence[SourceTensor], layers: Sequence[SourceLayer]) -> tuple[SourceTensor, ...]:
    """The tensors in the order of their layers."""
    rank = {layer.name: place for place, layer in reversed(list(enumerate(layers)))}
    return tuple(sorted(tensors, key=lambda tensor: rank.get(tensor.unit, len(rank))))


def _tensors(file: WeightFile, group: dict[str, Any]) -> list[SourceTensor]:
    names, listed = group.get("paths"), group.get("weights")
    if not isinstance(names, list) or not isinstance(listed, list) or len(names) > _MAX_FILES:
        raise file.damaged("a group of weights without files")
    files: list[WeightFile] = []
    for name in names:
        with neighbour(file, name if isinstance(name, str) else "") as part:
            files.append(part)
    starts = (0, *itertools.accumulate(part.size for part in files))
    found = _Group(file, tuple(files), starts)
    weights = [_weight(file, _mapping(file, item)) for item in listed]
    if starts[-1] != sum(weight.size for weight in weights):
        declared = sum(weight.size for weight in weights)
        raise file.damaged(f"weights of {declared} bytes in files of {starts[-1]} bytes: {str(names)[:60]}")
    offsets = itertools.accumulate((weight.size for weight in weights), initial=0)
    return [_tensor(found, weight, offset) for weight, offset in zip(weights, offsets, strict=False)]


def _tensor(group: _Group, weight: _Weight, offset: int) -> SourceTensor:
    def load() -> Tensor:
        values = tensor_of(group.file, group.read_at(offset, weight.size), weight.shape, weight.stored)
        if weight.stored == weight.dtype:
            return values
        if weight.stored == "float16":
            return values.to(torch.float32)
        real = values.to(torch.float64) * weight.scale + weight.least  # JavaScript computes in float64
        return (torch.floor(real + 0.5) if weight.dtype == "int32" else real).to(DTYPES[weight.dtype])

    return SourceTensor(weight.name, weight.shape, weight.dtype, *unit_and_leaf(weight.name), load)


def _weight(file: WeightFile, item: dict[str, Any]) -> _Weight:
    name, shape, dtype = item.get("name"), item.get("shape"), str(item.get("dtype"))
    if not isinstance(name, str) or not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise file.damaged(f"the entry {str(item)[:80]} in the weights manifest")
    how = _mapping(file, item.get("quantization", {}))
    stored = str(how.get("dtype", dtype))
    if dtype not in _DTYPES or stored not in _DTYPES or (how and not _is_possible(how, dtype, stored)):
        raise file.refused(
            "The model contains weights of an unsupported type.", f"{name!r} in {str(dtype)[:40]}, {str(how)[:80]}",
            "convert the model again, with float32 weights.",
        )  # fmt: skip
    scale, least = float(how.get("scale", 1.0)), float(how.get("min", 0.0))
    return _Weight(name, tuple(shape), dtype, stored, scale, least, num_bytes(file, shape, stored))


def _is_possible(how: dict[str, Any], dtype: str, stored: str) -> bool:
    """Whether TensorFlow.js supports this quantisation."""
    numbers = [how.get("scale", 1.0), how.get("min", 0.0)]
    is_finite = all(
        type(number) in (int, float) and abs(number) < 1e300 and math.isfinite(number) for number in numbers
    )
    return (
        stored in _QUANTISED and is_finite and dtype in (("float32",) if stored == "float16" else ("float32", "int32"))
    )


def _mapping(file: WeightFile, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise file.damaged(f"{str(value)[:60]!r} instead of a JSON object")
    return value
