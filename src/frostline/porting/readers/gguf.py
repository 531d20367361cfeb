"""GGUF, the format of llama.cpp: metadata, a table of tensors, and their bytes. Quantised tensors become float32.

References:
    ggml, `docs/gguf.md`.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from frostline.porting.readers import state_dict
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.gguf_blocks import BLOCK_TYPES
from frostline.porting.readers.pickle_machine import Tape
from frostline.porting.readers.tensor_data import MAX_TENSORS, check_names, num_bytes, tensor_of

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_PLAIN = {0: "float32", 1: "float16", 24: "int8", 25: "int16", 26: "int32", 27: "int64", 28: "float64", 30: "bfloat16"}
_OTHER_TYPES = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _ARRAY = 8, 9
_ROTATED = ("/attn_q", "/attn_k")
# By `general.architecture`, according to llama.cpp's converter (`conversion/`, as of 2026): rows of query and key in
# pairs within each head; the same rows as in transformers; norm scales that are larger by one than in transformers.
_PAIRED = ("llama",)
_UNCHANGED = ("bert", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "gemma-embedding")
_SHIFTED = ("gemma", "gemma2", "gemma3", "gemma-embedding")
SHIFTED = "Norm scales are stored with 1 added to the weights of Gemma in transformers."
_MAX_KEYS, _MAX_KEY_BYTES, _MAX_ITEMS = 65_535, 65_535, 4_000_000
_MAX_AXES = 4
_CHUNK_BLOCKS = 8_192  # blocks dequantised at a time: 8 MB of float32


class _Entry(NamedTuple):
    """One entry in the table of tensors."""

    shape: tuple[int, ...]
    kind: int
    offset: int


def claims(file: WeightFile) -> bool:
    """Whether the file begins with `GGUF`."""
    return file.start(4) == b"GGUF"


def read(file: WeightFile) -> Source:
    """Every tensor of the file.

    Args:
        file: The file, which must not be split.

    Raises:
        PortError: If the file is damaged, is one of several parts, or has a tensor of an unsupported type.
    """
    tape = Tape(file, file.read_at, 4, file.size)
    version, num_tensors, num_keys = struct.unpack("<IQQ", tape.take(20))
    if version not in (2, 3):
        raise file.refused(
            "This version of GGUF is not supported.", f"version {version}; versions 2 and 3 (little-endian) are",
            "convert the model again with a current llama.cpp.",
        )  # fmt: skip
    if num_tensors > MAX_TENSORS or num_keys > _MAX_KEYS:
        raise file.damaged(f"{num_tensors} tensors and {num_keys} metadata entries")
    metadata = _metadata(tape, num_keys)
    if metadata.get("split.count", 0) not in (0, 1):
        raise file.refused(
            "The file is one of several parts.", f"split.count is {metadata['split.count']}",
            "join the parts: llama-gguf-split --merge FIRST-PART OUT.gguf.",
        )  # fmt: skip
    rows = [(_text(tape, _MAX_KEY_BYTES), _entry(tape)) for _ in range(num_tensors)]
    check_names(file, [name for name, _ in rows])
    begin = _check_cover(file, dict(rows), tape.at, metadata)
    places = dict(state_dict.named(file, [name for name, _ in rows]).places)
    architecture = str(metadata.get("general.architecture", ""))
    for name, (unit, leaf) in places.items():
        if architecture not in _UNCHANGED and unit.endswith(_ROTATED):
            heads = _num_heads(metadata, architecture, unit) if architecture in _PAIRED else None
            places[name] = (unit, leaf_of(leaf, heads) if heads else f"{leaf} in an unknown order")
    tensors = tuple(_tensor(file, name, entry, begin, places.get(name, ("", name))) for name, entry in rows)
    return Source("GGUF", "gguf", tensors, "file", notes=tuple(_notes(rows, metadata)))


# The converter of llama.cpp permutes the rows of query and key for some architectures only. Where its code was not
# read, neither order is taken: a guess would be silently wrong.
def leaf_of(own: str, num_heads: int) -> str:
    """The leaf of a tensor whose rows lie in rotary pairs; `layouts/rotary.py` reads it."""
    return f"{own} in rotary pairs of {num_heads} heads"


def _num_heads(metadata: dict[str, Any], architecture: str, unit: str) -> int | None:
    """The heads of the queries or keys, which may be fewer; None if the file has no such number for all layers."""
    queries = metadata.get(f"{architecture}.attention.head_count")
    found = metadata.get(f"{architecture}.attention.head_count_kv", queries) if unit.endswith("k") else queries
    return found if type(found) is int and found > 0 else None


def _text(tape: Tape, limit: int) -> str:
    """A string with a preceding length."""
    (size,) = struct.unpack("<Q", tape.take(8))
    if size > limit:
        raise tape.file.damaged(f"a string of {size} bytes")
    return tape.take(size).decode(errors="replace")


def _metadata(tape: Tape, count: int) -> dict[str, Any]:
    """The metadata without its lists, which contain the vocabulary."""
    found: dict[str, Any] = {}
    for _ in range(count):
        name = _text(tape, _MAX_KEY_BYTES)
        if name in found:
            raise tape.file.damaged(f"two metadata entries named {name[:60]!r}")
        (kind,) = struct.unpack("<I", tape.take(4))
        found[name] = _value(tape, kind)
    return found


def _value(tape: Tape, kind: int) -> Any:
    if kind == _TEXT:
        (size,) = struct.unpack("<Q", tape.take(8))
        begin = tape.skip(size)
        return tape.read_at(begin, size).decode(errors="replace") if size <= _MAX_KEY_BYTES else None
    if kind in _SCALARS:
        return struct.unpack(_SCALARS[kind], tape.take(struct.calcsize(_SCALARS[kind])))[0]
    if kind != _ARRAY:
        raise tape.file.damaged(f"a metadata entry of the unknown type {kind}")
    item, count = struct.unpack("<IQ", tape.take(12))
    if item in _SCALARS:
        tape.skip(count * struct.calcsize(_SCALARS[item]))
    elif item == _TEXT and count <= _MAX_ITEMS:
        for _ in range(count):
            tape.skip(struct.unpack("<Q", tape.take(8))[0])
    else:
        raise tape.file.damaged(f"a metadata list with {count} items of the type {item}")
    return None


def _entry(tape: Tape) -> _Entry:
    (num_axes,) = struct.unpack("<I", tape.take(4))
    if num_axes > _MAX_AXES:
        raise tape.file.damaged(f"a tensor of {num_axes} axes")
    *sizes, kind, offset = struct.unpack(f"<{num_axes}QIQ", tape.take(8 * num_axes + 12))
    return _Entry(tuple(reversed(sizes)), kind, offset)


def _size_of(file: WeightFile, entry: _Entry) -> int:
    """The size of a tensor in bytes; its rows must consist of whole blocks."""
    if entry.kind in _PLAIN:
        return num_bytes(file, entry.shape, _PLAIN[entry.kind])
    block = BLOCK_TYPES.get(entry.kind)
    if block is None:
        raise file.refused(
            "The file contains tensors of an unsupported type.",
            _OTHER_TYPES.get(entry.kind, f"the unknown type {entry.kind}"),
            f"use a file of the same model in F16, BF16, or {', '.join(one.name for one in BLOCK_TYPES.values())}.",
        )  # fmt: skip
    if not entry.shape or entry.shape[-1] % block.elements:
        raise file.damaged(f"a tensor of shape {entry.shape} in blocks of {block.elements}")
    return math.prod(entry.shape) // block.elements * block.size


def _check_cover(file: WeightFile, entries: dict[str, _Entry], at: int, metadata: dict[str, Any]) -> int:
    """The offset of the tensors' bytes; these must cover the rest of the file without gaps and overlaps."""
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
        raise file.damaged(f"the alignment {alignment!r}"[:200])
    begin = -(-at // alignment) * alignment if entries else at
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].offset):
        if not 0 <= entry.offset - end < alignment or entry.offset % alignment:
            raise file.damaged(f"a gap or an overlap of tensors before {name!r}")
        end = entry.offset + _size_of(file, entry)
        if begin + end > file.size:
            raise file.damaged(f"{name!r} ends at byte {begin + end}, after the end of the file at {file.size}")
    if file.size - begin - end >= alignment:
        raise file.damaged(f"{file.size - begin - end} bytes after the last tensor")
    return begin


def _tensor(file: WeightFile, name: str, entry: _Entry, begin: int, place: tuple[str, str]) -> SourceTensor:
    at, size = begin + entry.offset, _size_of(file, entry)

    def load() -> Tensor:
        if entry.kind in _PLAIN:
            return tensor_of(file, file.read_at(at, size), entry.shape, _PLAIN[entry.kind])
        return torch.from_numpy(_unpacked(file, entry, at, size).reshape(entry.shape))

    return SourceTensor(name, entry.shape, _PLAIN.get(entry.kind, "float32"), *place, load)


def _unpacked(file: WeightFile, entry: _Entry, at: int, size: int) -> np.ndarray[Any, Any]:
    """The elements of a quantised tensor, dequantised in chunks of blocks."""
    block = BLOCK_TYPES[entry.kind]
    count = size // block.size
    whole = np.empty((count, block.elements), np.float32)
    for first in range(0, count, _CHUNK_BLOCKS):
        some = min(_CHUNK_BLOCKS, count - first)
        raw = np.frombuffer(file.read_at(at + first * block.size, some * block.size), np.uint8)
        with np.errstate(all="ignore"):  # scales in a damaged file may be infinite; the port checks the values later
            whole[first : first + some] = block.unpack(raw.reshape(some, block.size))
    return whole


def _notes(rows: list[tuple[str, _Entry]], metadata: dict[str, Any]) -> list[str]:
    notes: list[str] = []
    packed = sorted({BLOCK_TYPES[entry.kind].name for _, entry in rows if entry.kind in BLOCK_TYPES})
    if packed:
        notes.append(
            f"Tensors of the types {', '.join(packed)} were dequantised to float32; the original weights were rounded."
        )
    architecture = str(metadata.get("general.architecture", ""))
    has_rotated = any(f".{end[1:]}." in name for name, _ in rows for end in _ROTATED)
    has_heads = architecture in _PAIRED and _num_heads(metadata, architecture, "q") is not None
    if has_rotated and has_heads:
        notes.append(
            f"The architecture is {architecture}: in attn_q and attn_k neighbouring rows of each head are rotated "
            "together, where modules of transformers rotate the halves of a head."
        )
    elif has_rotated and architecture not in _UNCHANGED:
        notes.append(
            f"The architecture is {architecture or 'not stated'}: the order of the rows in attn_q and attn_k, or the "
            "number of heads, is not known, and these tensors are assigned to no layer. Port the files that the model "
            "was converted from."
        )
    if architecture in _SHIFTED and any("norm." in name for name, _ in rows):
        notes.append(SHIFTED)
    return notes
