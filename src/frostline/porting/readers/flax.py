"""Flax MessagePack files.

References:
    google/flax, `flax/serialization.py`: extension 1 is an array (shape, name of its dtype, bytes), 2 a complex number,
    3 a scalar array; an array of more than 2^30 bytes is a mapping of flat chunks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import PortError
from frostline.porting.readers.contract import SourceTensor
from frostline.porting.readers.jax_tree import source
from frostline.porting.readers.messagepack import Blob, Unpacker
from frostline.porting.readers.tensor_data import DTYPES, check_names, num_bytes, tensor_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from frostline.porting.readers.contract import Source
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
_ARRAY, _SCALAR = 1, 3
_EXTENSIONS = (1, 2, 3)
_CHUNKED = "__msgpack_chunked_array__"


def claims(file: WeightFile) -> bool:
    """Whether the file begins with a MessagePack mapping whose first key is a string."""
    start = file.start(7)
    skipped = {0xDE: 3, 0xDF: 5}.get(start[0], 1) if start else 0
    if not start or not (0x80 < start[0] < 0x90 or skipped > 1):
        return False
    try:
        key, _ = Unpacker(file).value(skipped, file.size)
    except PortError:
        return False
    return isinstance(key, str) and key.isprintable() and key != ""


def read(file: WeightFile, key: str | None = None) -> Source:
    """Read a tree of arrays.

    Args:
        file: A file that `flax.serialization` wrote.
        key: The part of the tree to select, such as `ema_params`; None selects the parameters of the network.

    Raises:
        PortError: If the file is damaged, or contains no arrays.
    """
    unpacker = Unpacker(file)
    tree, end = unpacker.value(0, file.size)
    if end != file.size:
        raise file.damaged(f"{file.size - end} bytes after the end of the tree")
    arrays = {path: _tensor(unpacker, path, value) for path, value in _leaves(tree, ())}
    check_names(file, [tensor.name for tensor in arrays.values()])
    found = source("Flax MessagePack", arrays, key) if arrays else None
    if found is None:
        raise file.refused(
            "The tree does not contain the requested entry.",
            f"{len(arrays)} arrays, the key {key!r}, and the entries {', '.join(sorted(tree)[:5]) or '(none)'}",
            "pass a file that flax.serialization wrote, and one of its entries as the key.",
        )  # fmt: skip
    return found


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The arrays of a tree with their paths; numbers and strings are skipped."""
    if isinstance(tree, dict) and _CHUNKED not in tree:
        for name, value in tree.items():
            yield from _leaves(value, (*path, name))
    elif isinstance(tree, list):
        for place, value in enumerate(tree):
            yield from _leaves(value, (*path, str(place)))
    elif isinstance(tree, dict) or (isinstance(tree, Blob) and tree.kind != 2):
        yield path, tree


def _tensor(unpacker: Unpacker, path: tuple[str, ...], value: Any) -> SourceTensor:
    file, name = unpacker.file, "/".join(path)
    if isinstance(value, Blob):
        shape, dtype, content = _array(unpacker, value)
        return SourceTensor(
            name,
            shape,
            dtype,
            "",
            "",
            lambda: tensor_of(file, file.array_at(content.offset, content.size), shape, dtype),
        )
    shape, pieces = _ordered(value.get("shape")), _ordered(value.get("chunks"))
    if not all(type(size) is int for size in shape) or not all(isinstance(piece, Blob) for piece in pieces):
        raise file.damaged(f"the array {name!r} with malformed chunks")
    parts = [_array(unpacker, piece) for piece in pieces]
    dtypes = {dtype for _, dtype, _ in parts}
    if len(dtypes) != 1 or sum(math.prod(part) for part, _, _ in parts) != math.prod(shape):
        raise file.damaged(
            f"the array {name!r} of shape {tuple(shape)} with {len(parts)} chunks that do not fit its size"
        )
    dtype = dtypes.pop()
    num_bytes(file, shape, dtype)

    def load() -> Tensor:
        whole = torch.empty(math.prod(shape), dtype=DTYPES[dtype])
        at = 0
        for part, _, content in parts:
            piece = tensor_of(file, file.read_at(content.offset, content.size), part, dtype).reshape(-1)
            whole[at : at + len(piece)] = piece
            at += len(piece)
        return whole.reshape(tuple(shape))

    return SourceTensor(name, tuple(shape), dtype, "", "", load)


def _ordered(value: Any) -> list[Any]:
    """The items of a tuple, which Flax writes as a mapping with the keys "0", "1", ..."""
    if isinstance(value, dict):
        value = [value.get(str(place)) for place in range(len(value))]
    return value if isinstance(value, list) else [None]


def _array(unpacker: Unpacker, blob: Blob) -> tuple[tuple[int, ...], str, Blob]:
    """Shape, dtype and bytes of an array."""
    file = unpacker.file
    if blob.kind not in _EXTENSIONS:
        raise file.damaged(f"the MessagePack extension {blob.kind} at byte {blob.offset}, which Flax does not define")
    parts, end = unpacker.value(blob.offset, blob.offset + blob.size)
    if not (isinstance(parts, list) and len(parts) == 3 and isinstance(parts[0], list) and isinstance(parts[2], Blob)):
        raise file.damaged(f"an array at byte {blob.offset} without shape, dtype and bytes")
    shape, dtype, content = parts
    is_known = isinstance(dtype, str) and dtype in DTYPES
    if not is_known or content.kind is not None or not all(type(size) is int for size in shape):
        raise file.damaged(f"an array of dtype {str(dtype)[:40]!r} and shape {str(shape)[:60]}")
    expected = num_bytes(file, shape, dtype)
    if content.size != expected or end != blob.offset + blob.size:
        raise file.damaged(f"{content.size} bytes for an array of shape {tuple(shape)} in {dtype}")
    return tuple(shape), dtype, content
