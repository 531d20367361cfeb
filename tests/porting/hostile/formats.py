"""Rows 43 to 50: the other formats, one by one."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from helpers_porting_wire import block, number

from .case import FILES, built, copied, raw
from .containers import DAMAGED


def _text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def _row(name: bytes = b"a", dims: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def _gguf(*rows: bytes, data: bytes = bytes(64), keys: tuple[bytes, ...] = (), counts: Any = None) -> bytes:
    head = struct.pack("<4sIQQ", b"GGUF", 3, *(counts or (len(rows), len(keys)))) + b"".join(keys) + b"".join(rows)
    return head + bytes(-len(head) % 32) + data


_ALIGNMENT = _text(b"general.alignment") + struct.pack("<I", 4)
_KEY = _text(b"a") + struct.pack("<II", 4, 1)
for _what, _data in {
    "2^60 tensors": _gguf(_row(), counts=(2**60, 0)), "2^60 keys": _gguf(counts=(0, 2**60)),
    "a name of 2^63 bytes": _gguf(struct.pack("<Q", 2**63)),
    "an array of arrays": _gguf(keys=(_text(b"a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5_000,)),
    "a key twice": _gguf(keys=(_KEY, _KEY)), "a name twice": _gguf(_row(), _row(offset=32)),
    "an alignment of 0": _gguf(keys=(_ALIGNMENT + bytes(4),)),
    "an alignment of 48": _gguf(keys=(_ALIGNMENT + struct.pack("<I", 48),)),
    "tensors that overlap": _gguf(_row(), _row(b"b", offset=0)),
    "a tensor past the end": _gguf(_row(offset=2**63)),
}.items():  # fmt: skip
    raw(43, _what, _data, "damaged|not read")
raw(44, "blocks of 2^120 elements", _gguf(_row(dims=(2**40, 2**40, 2**40), kind=8)), DAMAGED)
raw(44, "half of a block", _gguf(_row(dims=(33,), kind=8)), DAMAGED)
raw(44, "an unknown type of blocks", _gguf(_row(dims=(32,), kind=99)), "99")


def _name(value: str) -> bytes:
    return bytes([0xD9, len(value)]) + value.encode()


def _array(shape: bytes = b"\x91\x02", dtype: str = "float32", code: int = 1) -> bytes:
    body = b"\x93" + shape + _name(dtype) + b"\xc4\x08" + bytes(8)
    return bytes([0xC7, len(body), code]) + body


_PARAMS = b"\x81" + _name("params")
_CHUNKED = b"\x83" + _name("__msgpack_chunked_array__") + b"\xc3" + _name("shape") + b"\x81" + _name("0") + b"\x04"
for _what, _data in {
    "mappings 300,000 deep": _PARAMS + b"\x81\xa1a" * 300_000, "bytes of 4 GB": _PARAMS + b"\xc6\xff\xff\xff\xff",
    "a list of 2^32": _PARAMS + b"\xdd\xff\xff\xff\xff", "an unknown extension": _PARAMS + _array(code=9),
    "the dtype O": _PARAMS + _array(dtype="O"), "the dtype V8": _PARAMS + _array(dtype="V8"),
    "a shape of 2^64": _PARAMS + _array(shape=b"\x92\xcf" + b"\xff" * 8 + b"\x02"),
    "pieces that are fewer than their shape": _PARAMS + _CHUNKED + _name("chunks") + b"\x81" + _name("0") + _array(),
}.items():  # fmt: skip
    raw(45, _what, _data, "damaged|format .* unknown")


def _orbax(row: int, what: str, says: str, change: Any, kind: str = "folders") -> None:
    @built(row, what, says)
    def build(folder: Path) -> Path:
        path = copied(folder, f"orbax/{kind}")
        change(path)
        return path


def _key(value: str) -> Any:
    def change(path: Path) -> None:
        stated = json.loads((path / "_METADATA").read_text())
        stated["tree_metadata"]["('params', 'head', 'bias')"]["key_metadata"][2]["key"] = value
        (path / "_METADATA").write_text(json.dumps(stated))

    return change


def _zarray(**changes: Any) -> Any:
    def change(path: Path) -> None:
        place = path / "params.head.bias" / ".zarray"
        place.write_text(json.dumps(json.loads(place.read_text()) | changes))

    return change


def _empty_bomb(path: Path) -> None:
    stated = json.loads((path / "_METADATA").read_text())
    stated.pop("store_array_data_equal_to_fill_value")
    (path / "_METADATA").write_text(json.dumps(stated))
    _zarray(shape=[10**12], chunks=[10**9])(path)


def _linked(path: Path) -> None:
    chunk = path / "params.head.bias" / "0"
    chunk.rename(path.parent / "elsewhere")
    chunk.symlink_to(path.parent / "elsewhere")


for _value in ("/etc/passwd", "..", "a/../../b"):
    for _kind in ("folders", "ocdbt"):
        _orbax(46, f"the key {_value} ({_kind})", DAMAGED, _key(_value), _kind)
_orbax(46, "a chunk that is a link", "contains a link", _linked)
_orbax(47, "an unknown compressor", "array in an unsupported form", _zarray(compressor={"id": "pickle"}))
_orbax(47, "chunks larger than the array", DAMAGED, _zarray(chunks=[2**40]))
_orbax(47, "10^12 elements of which none is stored", "in a checkpoint of", _empty_bomb)


@built(47, "a store of its own in the metadata", reads="Orbax")
def _store(folder: Path) -> Path:
    (folder / "secret").mkdir()
    path = copied(folder, "orbax/folders")
    _zarray(kvstore={"driver": "file", "path": str(folder / "secret")})(path)
    return path


def _older(shape: list[int], values: bytes) -> bytes:
    return struct.pack(f"<Ii I{len(shape)}q 3i".replace(" ", ""), 0xF993FAC9, 0, len(shape), *shape, 1, 0, 0) + values


def _mxnet(*arrays: bytes, names: tuple[str, ...] = ("a",)) -> bytes:
    tail = struct.pack("<Q", len(names)) + b"".join(_text(one.encode()) for one in names)
    return struct.pack("<3Q", 0x112, 0, len(arrays)) + b"".join(arrays) + tail


def _caffe(values: int, *shape: int) -> bytes:
    blob = block(7, b"".join(number(1, size) for size in shape)) + block(5, bytes(4 * values))
    return block(1, "n") + block(100, block(1, "a") + block(2, "Scale") + block(7, blob))


raw(48, "MXNet, a float too few", _mxnet(_older([3], bytes(8))), DAMAGED)
raw(48, "MXNet, a float too many", _mxnet(_older([3], bytes(16))), DAMAGED)
raw(48, "MXNet, 2^60 arrays", struct.pack("<3Q", 0x112, 0, 2**60), DAMAGED)
raw(48, "the magic number of TVM", struct.pack("<2Q", 0xF7E58D4F05049CB7, 0) + bytes(64), "Parameters compiled by TVM")
raw(48, "Caffe, a float too few", _caffe(2, 3), DAMAGED)
raw(48, "Caffe, a float too many", _caffe(4, 3), DAMAGED)


def _darknet(row: int, what: str, more: bytes, less: int = 0) -> None:
    @built(row, what, "not contain the weights of this network")
    def build(folder: Path) -> Path:
        path = copied(folder, "darknet/net.weights")
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - less] + more)
        return path


_darknet(48, "Darknet, a float too many", bytes(4))
_darknet(48, "Darknet, a float too few", b"", 4)


def _element(kind: int, content: bytes) -> bytes:
    return struct.pack("<2I", kind, len(content)) + content + bytes(-len(content) % 8)


def _matlab(kind: int) -> bytes:
    head = _element(6, struct.pack("<2I", kind, 0)) + _element(5, struct.pack("<2i", 1, 1)) + _element(1, b"net")
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + _element(14, head + _element(9, bytes(8)))


for _kind, _what in ((3, "an object"), (16, "a function"), (17, "an opaque object")):
    raw(49, _what, _matlab(_kind), "a value that is not supported")
_PACKED = zlib.compress(bytes(1 << 27), 9)
_MATLAB = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
raw(49, "128 MB of zeros", _MATLAB + struct.pack("<2I", 15, len(_PACKED)) + _PACKED, DAMAGED)


def _skops(what: str, says: str, **changes: Any) -> None:
    @built(50, what, says)
    def build(folder: Path) -> Path:
        with zipfile.ZipFile(FILES / "sklearn" / "regressor.skops") as archive:
            members = {one: archive.read(one) for one in archive.namelist()}
        schema = json.loads(members["schema.json"])
        inner = changes.pop("content", None)
        schema |= changes
        if inner:
            schema["content"]["content"] |= inner
        members["schema.json"] = json.dumps(schema).encode()
        with zipfile.ZipFile(folder / "a.skops", "w") as archive:
            for one, content in members.items():
                archive.writestr(zipfile.ZipInfo(one), content)
        return folder / "a.skops"


_FOREIGN = {"__class__": "ndarray", "__module__": "numpy", "type": "numpy", "file": "../schema.json"}
_skops("a schema that asks for os.system", "multilayer perceptrons are read", __module__="os", __class__="system")
_skops("an array in another file", DAMAGED, content={"coefs_": {"content": [_FOREIGN]}})
_skops("a function for an activation", DAMAGED, content={"activation": {"content": '"os.system"'}})
_skops("an array of JSON", DAMAGED, content={"coefs_": {"content": [{**_FOREIGN, "type": "json"}]}})
