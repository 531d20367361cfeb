"""safetensors: a single file, or the index of a sharded model; headers are validated strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from frostline.porting.readers import state_dict, strict_json
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.tensor_data import check_names, num_bytes, tensor_of
from frostline.porting.readers.weight_file import neighbour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64",
    "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
_METADATA = "__metadata__"
_MAX_SHARDS = 10_000


@dataclass(frozen=True)
class _Entry:
    """One tensor in a header: its dtype, its shape, and the range of its bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    count: int


def claims(file: WeightFile) -> bool:
    """Whether the file begins with the size of a JSON header and that header, or is an index of such shards."""
    start = file.start(1 << 16)
    if len(start) > 8 and start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= file.size - 8:
        return True
    return start.lstrip().startswith(b"{") and b'"weight_map"' in start and b'.safetensors"' in start


def read(file: WeightFile, key: str | None = None) -> Source:
    """Every tensor of a safetensors file, or of all shards of an index.

    Args:
        file: A safetensors file, or an index (`model.safetensors.index.json`) beside its shards.
        key: The prefix of the wanted names, such as `ema`; for files of PyTorch only.

    Raises:
        PortError: If the header contains duplicate names, shapes or dtypes that do not fit the bytes, overlapping
            tensors or gaps; or if the index and the shards contradict each other.
    """
    if file.start(9)[8:] == b"{":
        entries, metadata = _header(file)
        loads: dict[str, tuple[_Entry, Callable[[], Tensor]]] = {
            name: (entry, partial(_load, file, entry)) for name, entry in entries.items()
        }
        return _source(file, "safetensors", loads, metadata, key)
    return _from_index(file, key)


def _header(file: WeightFile) -> tuple[dict[str, _Entry], Mapping[str, Any]]:
    """The tensors of one file, in the order of their bytes, and its metadata."""
    size = int.from_bytes(file.read_at(0, 8), "little")
    if not 2 <= size <= min(file.size - 8, strict_json.MAX_BYTES):
        raise file.damaged(f"a header of {size} bytes in a file of {file.size}")
    raw = file.read_at(8, size)
    if raw[:1] != b"{":
        raise file.damaged("a header that does not begin with '{'")
    stated = strict_json.parse(file, raw)
    metadata = stated.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise file.damaged("metadata with a value that is not a string")
    entries = {name: _entry(file, name, fields, 8 + size) for name, fields in stated.items()}
    check_names(file, list(entries))
    at = 8 + size
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].count)))
    for name, entry in entries.items():
        if entry.begin != at:
            raise file.damaged(f"a gap or an overlap of tensors before {name!r}")
        at += entry.count
    if at != file.size:
        raise file.damaged(f"{file.size} bytes; the header describes {at}")
    return entries, metadata


def _entry(file: WeightFile, name: str, fields: object, start: int) -> _Entry:
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise file.damaged(f"the tensor {name[:60]!r} without dtype, shape and data_offsets")
    shape, offsets, dtype = fields["shape"], fields["data_offsets"], fields["dtype"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise file.refused(
            "The file contains a tensor with a dtype that PyTorch does not have.", f"{dtype!r} of {name[:60]!r}",
            f"save it in one of {', '.join(_DTYPES)}.",
        )  # fmt: skip
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise file.damaged(f"the tensor {name[:60]!r} with the shape {shape} and the offsets {offsets}"[:200])
    count = num_bytes(file, shape, _DTYPES[dtype])
    if offsets[1] - offsets[0] != count:
        raise file.damaged(f"{name[:60]!r} needs {count} bytes, but has {offsets[1] - offsets[0]}")
    return _Entry(_DTYPES[dtype], tuple(shape), start + offsets[0], count)


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _load(file: WeightFile, entry: _Entry) -> Tensor:
    return tensor_of(file, file.array_at(entry.begin, entry.count), entry.shape, entry.dtype)


def _from_index(file: WeightFile, key: str | None) -> Source:
    stated = strict_json.parse(file, file.start(strict_json.MAX_BYTES + 1))
    listed = stated.get("weight_map") if isinstance(stated, dict) else None
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise file.damaged("an index without the shard of each tensor")
    places = cast("dict[str, str]", listed)
    shards = sorted(set(places.values()))
    if len(shards) > _MAX_SHARDS:
        raise file.damaged(f"an index of {len(shards)} shards; the limit is {_MAX_SHARDS}")
    loads: dict[str, tuple[_Entry, Callable[[], Tensor]]] = {}
    formats: set[str] = set()
    for shard_name in shards:
        with neighbour(file, shard_name) as shard:
            entries, metadata = _header(shard)
        wanted = {name for name, place in places.items() if place == shard_name}
        if wanted != entries.keys():
            odd = min(wanted ^ entries.keys())
            raise file.damaged(f"the index and the shard {shard_name!r} contradict each other about {odd[:60]!r}")
        formats.add(metadata.get("format", "pt"))
        for name, entry in entries.items():
            loads[name] = (entry, partial(_load_again, file, shard_name, shard, entry))
    if len(formats) > 1:
        raise file.damaged(f"shards of several frameworks: {', '.join(sorted(formats))}"[:200])
    return _source(file, "safetensors in shards", loads, {"format": formats.pop() if formats else "pt"}, key)


def _load_again(file: WeightFile, name: str, first: WeightFile, entry: _Entry) -> Tensor:
    with neighbour(file, name, first) as shard:
        return _load(shard, entry)


def _source(
    file: WeightFile,
    kind: str,
    loads: Mapping[str, tuple[_Entry, Callable[[], Tensor]]],
    metadata: Mapping[str, str],
    key: str | None,
) -> Source:
    framework = {"tf": "keras", "flax": "flax", "jax": "flax"}.get(metadata.get("format", "pt"), "torch")
    if metadata.get("format") == "mlx" and any(len(entry.shape) > 2 for entry, _ in loads.values()):
        raise file.refused(
            "The file was written by MLX, whose convolution kernels have another layout than those of PyTorch.",
            "tensors of more than two axes", "use the PyTorch file from which the MLX file was converted.",
        )  # fmt: skip
    if framework == "torch":
        names = state_dict.named(file, list(loads), key)
        places, dropped, notes = names.places, names.dropped, names.notes
    else:
        file.check_no_key(key)
        places, dropped, notes = {name: _place(name) for name in loads}, MappingProxyType({}), ()
    tensors = tuple(
        SourceTensor(name, entry.shape, entry.dtype, *places[name], load)
        for name, (entry, load) in loads.items()
        if name in places
    )
    return Source(kind, framework, tensors, "file", (), dropped, notes)


def _place(name: str) -> tuple[str, str]:
    """Unit and leaf of a name in TensorFlow (`bert/pooler/kernel:0`) or Flax (`params.dense.kernel`)."""
    unit, _, leaf = re.sub(r":\d+$", "", name).replace(".", "/").rpartition("/")
    return unit.removeprefix("params/"), leaf
