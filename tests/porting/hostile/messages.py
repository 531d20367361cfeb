"""Rows 37 to 42: TensorFlow, protocol buffers, ONNX."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from helpers_porting_wire import block, entry, extents, number, packed, table, varint

from .case import built, copied, raw
from .containers import DAMAGED

DATA = np.arange(12, dtype="<f4").tobytes()
HEADER = number(1, 1)


def _checkpoint(
    row: int, what: str, rows: list[tuple[bytes, bytes]] | bytes, header: bytes = HEADER, says: str = DAMAGED
) -> None:
    @built(row, what, says)
    def build(folder: Path) -> Path:
        index = rows if isinstance(rows, bytes) else table([(b"", header), *rows])
        (folder / "a.index").write_bytes(index)
        (folder / "a.data-00000-of-00001").write_bytes(DATA)
        return folder / "a.index"


_TABLE = table([(b"", HEADER), (b"w", entry(DATA, (12,)))])
_FOOT = len(_TABLE) - 48


def _footed(handles: bytes) -> bytes:
    return _TABLE[:_FOOT] + handles.ljust(40, b"\0") + _TABLE[-8:]


def _bomb(content: bytes) -> bytes:
    """Snappy that states 2^32 - 1 bytes."""
    return varint(2**32 - 1) + content


_checkpoint(37, "a wrong checksum of a block", _TABLE[:3] + b"\xff" + _TABLE[4:])
_checkpoint(37, "a block past the end", _footed(varint(2**40) + varint(100) + varint(2**40) + varint(100)))
_checkpoint(37, "a block of 2^62 bytes", _footed(varint(0) + varint(2**62) + varint(0) + varint(2**62)))
_checkpoint(37, "a bomb in a block", table([(b"", HEADER), (b"w", entry(DATA, (12,)))], _bomb))
_checkpoint(37, "keys out of order", table([(b"", HEADER), (b"w", entry(DATA, (12,))), (b"a", entry(DATA, (12,)))]))
raw(37, "another magic number", _TABLE[:-8] + bytes(8), "format .* unknown", name="a.index")
_checkpoint(38, "a data file that does not exist", [(b"w", entry(DATA, (12,), shard=1))])
_checkpoint(38, "10^9 data files", [], number(1, 10**9))
_checkpoint(38, "an end beyond the data", [(b"w", entry(DATA, (12,), offset=4))])
_checkpoint(38, "a size of 2^62", [(b"w", entry(DATA, (2**60,), size=2**62))])
_checkpoint(38, "other bytes than the checksum's", [(b"w", entry(DATA[::-1], (12,)))])
_checkpoint(38, "parts with a hole", [(b"w", entry(b"", (6, 2), slices=[extents((0, 4), None)]))])
_checkpoint(38, "a resource", [(b"w", entry(DATA, (12,), dtype=20))], says="contains no weights")
_checkpoint(38, "a variant", [(b"w", entry(DATA, (12,), dtype=21))], says="contains no weights")


@built(39, "an operation that would run Python", reads="TensorFlow|SavedModel")
def _operation(folder: Path) -> Path:
    saved = copied(folder, "tensorflow/saved_tfkeras/saved_model.pb").parent
    node = block(1, block(1, "run") + block(2, "PyFunc"))
    model = saved / "saved_model.pb"
    model.write_bytes(model.read_bytes() + block(2, block(2, node)))
    (saved / "assets").mkdir(exist_ok=True)
    (saved / "assets" / "ops.so").write_bytes(b"\x7fELF")
    return saved


def _onnx(tensor: bytes) -> bytes:
    node = block(1, block(1, "x") + block(1, "w") + block(2, "y") + block(4, "PRelu"))
    return number(1, 8) + block(7, node + block(5, tensor) + block(11, block(1, "x")))


def _tensor(dims: tuple[int, ...], *fields: bytes) -> bytes:
    return b"".join(number(1, size) for size in dims) + number(2, 1) + block(8, "w") + b"".join(fields)


def _nested(depth: int) -> bytes:
    """Graphs inside of attributes of nodes."""
    graph = block(1, block(4, "If"))
    for _ in range(depth):
        graph = block(1, block(4, "If") + block(5, block(1, "then_branch") + block(6, graph) + number(20, 5)))
    return number(1, 8) + block(7, graph + block(5, _tensor((1,), block(9, b"1234"))))


raw(40, "messages 200 deep", _nested(200), DAMAGED)
raw(40, "a group", _onnx(_tensor((1,), block(9, b"1234")) + varint(15 << 3 | 3) + varint(15 << 3 | 4)), DAMAGED)
raw(40, "a length past the end", _onnx(_tensor((1,), varint(9 << 3 | 2) + varint(2**40) + b"12")), DAMAGED)
raw(
    40,
    "10^6 unknown fields",
    _onnx(_tensor((1,), block(9, b"1234"))) + number(99, 1) * 1_000_000,
    "damaged|format .* unknown",
)
raw(40, "32 MB of unknown fields", number(1, 8) + number(99, 1) * 11_000_000, "damaged|format .* unknown")


def _elsewhere(row: int, what: str, says: str, location: str, **more: int) -> None:
    @built(row, what, says)
    def build(folder: Path) -> Path:
        inside = folder / "model"
        inside.mkdir()
        (folder / "secret").write_bytes(bytes(28))
        (inside / "part").write_bytes(bytes(28))
        (inside / "link").symlink_to(folder / "secret")
        (inside / "folder").symlink_to(folder)
        os.link(folder / "secret", inside / "hard")
        said = {"location": location.format(folder=folder), **more}
        place = b"".join(block(13, block(1, key) + block(2, str(value))) for key, value in said.items())
        (inside / "a.onnx").write_bytes(_onnx(_tensor((7,), place + number(14, 1))))
        return inside / "a.onnx"


for _location in ("../secret", "{folder}/secret", "a/../../secret", "link", "folder/secret", "hard"):
    _elsewhere(41, f"values in {_location}", "outside of its folder", _location)
_elsewhere(41, "an offset outside of the file", DAMAGED, "part", offset=25)
_elsewhere(41, "a negative offset", DAMAGED, "part", offset=-4, length=28)
_elsewhere(41, "a length outside of the file", DAMAGED, "part", offset=4, length=28)
raw(42, "fewer bytes than the shape", _onnx(_tensor((2, 3), block(9, b"1234"))), DAMAGED)
raw(42, "two kinds of values", _onnx(_tensor((1,), block(9, b"1234"), block(4, struct.pack("<f", 1)))), DAMAGED)
raw(42, "a segment", _onnx(_tensor((1,), block(9, b"1234"), block(3, number(1, 0)))), DAMAGED)
raw(42, "10^12 values of which one is there", _onnx(_tensor((10**12,), block(4, struct.pack("<f", 1)))), DAMAGED)
raw(42, "a shape of 2^126 elements", _onnx(_tensor((2**63 - 1, 2**63 - 1), block(9, b""))), DAMAGED)
raw(42, "integers as floats", _onnx(_tensor((2,), packed(7, [1, 2]))), DAMAGED)
