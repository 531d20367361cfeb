"""Files of `torch.save` before PyTorch 1.6: five pickles, then raw storages. The older tar archives are refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from frostline.porting.readers.checkpoint_entries import find_weights
from frostline.porting.readers.pickle_machine import Tape, interpret
from frostline.porting.readers.pickle_values import Persistent, shown
from frostline.porting.readers.tensor_data import DTYPES
from frostline.porting.readers.torch_archive import parts_of, source_of
from frostline.porting.readers.torch_tensors import NAMES, REMEDY, Storage, TensorRebuilder

if TYPE_CHECKING:
    from frostline.porting.readers.contract import Source
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TAR_AT, _TAR = 257, b"ustar"


def claims(file: WeightFile) -> bool:
    """Whether the file begins with PyTorch's magic number as a pickle, or is a tar archive."""
    start = file.start(32)
    return (start[:1] == b"\x80" and _MAGIC_BYTES in start) or _is_tar(file)


def read(file: WeightFile, key: str | None = None) -> Source:
    """The tensors of a state dict, or of a trainer's checkpoint.

    Args:
        file: The file.
        key: The entry that contains the weights; None searches the usual names.

    Raises:
        PortError: If the file is damaged, its pickle contains more than tensors, or it is a tar archive.
    """
    if _is_tar(file):
        raise file.refused(
            "Tar archives of PyTorch before 0.1.10 are not supported.", "a tar archive",
            "if the file was packed with tar, unpack it; if PyTorch wrote it and its origin is trusted, load it with "
            "PyTorch and save it again: torch.save(model.state_dict(), path).",
        )  # fmt: skip
    tape = Tape(file, file.read_at, 0, file.size)
    magic, protocol, system = (interpret(tape, (), REMEDY) for _ in range(3))
    if magic != _MAGIC or protocol != 1001 or not isinstance(system, dict):
        raise file.damaged("a PyTorch file without its header")
    if system.get("little_endian") is not True:
        raise file.refused(
            "Files of PyTorch before 1.6 from big-endian machines are not supported.", "little_endian is not True",
            "where the file was made, save it again with a newer PyTorch, which states the byte order.",
        )  # fmt: skip
    references: list[Persistent] = []
    whole = interpret(tape, NAMES, REMEDY, references)
    keys = interpret(tape, (), REMEDY)
    memories = _memories(file, references, keys, tape.at)
    rebuilder = TensorRebuilder(tape, lambda identity: _storage(file, memories, identity))
    return source_of(file, find_weights(file, whole, key, rebuilder.array), "PyTorch weights (before 1.6)")


def _is_tar(file: WeightFile) -> bool:
    return file.size > _TAR_AT + len(_TAR) and file.read_at(_TAR_AT, len(_TAR)) == _TAR


def _memories(file: WeightFile, references: list[Persistent], keys: Any, at: int) -> dict[str, tuple[int, int]]:
    """Offset and size of each storage; the last one must end at the end of the file."""
    stated = {key: (dtype, count) for key, dtype, count in (parts_of(file, one.identity) for one in references)}
    if not isinstance(keys, list) or len(keys) != len(stated) or {str(key) for key in keys} != set(stated):
        raise file.damaged("a list of storages that differs from those of the tensors")
    found: dict[str, tuple[int, int]] = {}
    for key in keys:
        dtype, expected = stated[str(key)]
        (count,) = struct.unpack("<q", file.read_at(at, 8))
        size = count * DTYPES[dtype].itemsize
        if count != expected or at + 8 + size > file.size:
            raise file.damaged(f"the storage {key!r} of {count} elements; {expected} are stated"[:200])
        found[str(key)] = (at + 8, size)
        at += 8 + size
    if at != file.size:
        raise file.damaged(f"{file.size - at} bytes after the last storage")
    return found


def _storage(file: WeightFile, memories: dict[str, tuple[int, int]], identity: Any) -> Storage:
    key, dtype, _ = parts_of(file, identity)
    begin, size = memories[key]
    view = identity[5] if len(identity) > 5 else None
    if view is not None:  # a part of the storage; PyTorch before 0.4 writes such views
        width = DTYPES[dtype].itemsize
        if not isinstance(view, tuple) or len(view) != 3 or any(type(one) is not int for one in view[1:]):
            raise file.damaged(f"the view {shown(view)} of the storage {key!r}"[:200])
        offset, count = view[1] * width, view[2] * width
        if not 0 <= offset <= offset + count <= size:
            raise file.damaged(f"the view {shown(view)} of the storage {key!r}"[:200])
        begin, size, key = begin + offset, count, f"{key}+{offset}"
    return Storage(key, dtype, size, lambda start, count: file.array_at(begin + start, count), is_big_endian=False)
