"""Rows 1 to 13: any format, and safetensors."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np

from .case import FILES, built, copied, raw

DAMAGED = "is damaged, or still being written"
ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


class System:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch frostline-was-here",)


def tensors(header: object, data: bytes = b"") -> bytes:
    """A safetensors file."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def arrays(**named: np.ndarray) -> bytes:
    """An `.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    return buffer.getvalue()


WHOLE = tensors({"a.weight": ENTRY}, b"1234")
raw(1, "a pickle named .safetensors", pickle.dumps({"a": System()}), "(posix|nt).system", name="m.safetensors")
raw(1, "a zip archive named .h5", arrays(a=np.ones(2)), "", name="m.h5", reads="NumPy")
raw(
    1,
    "a web page named .pt",
    b"<!DOCTYPE html><html>" + bytes(100),
    "format .* unknown|a web page",
    name="m.pt",
)
raw(2, "bytes after a safetensors file", WHOLE + b"PK\5\6" + bytes(18), DAMAGED)
raw(2, "bytes before a zip archive", b"GIF89a" + arrays(a=np.ones(2)), "format .* unknown|damaged")
raw(2, "bytes after a zip archive", arrays(a=np.ones(2)) + b"\0", DAMAGED)
raw(2, "two networks in one ONNX file", (FILES / "onnx" / "exported.onnx").read_bytes() * 2, DAMAGED)


@built(3, "a pipe", "Only regular files")
def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@built(3, "an endless device", "Only regular files")
def _device(_: Path) -> Path:
    return Path("/dev/zero")


@built(3, "an empty folder", "no file with a known name")
def _folder(folder: Path) -> Path:
    (folder / "model").mkdir()
    return folder / "model"


def _index(folder: Path, shard: str) -> Path:
    (folder / "model").mkdir()
    index = {"metadata": {}, "weight_map": {"a.weight": shard}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "secret.safetensors").write_bytes(WHOLE)
    return folder / "model" / "model.safetensors.index.json"


@built(3, "a shard that is a link to elsewhere", "outside of its folder")
def _link(folder: Path) -> Path:
    index = _index(folder, "s.safetensors")
    (index.parent / "s.safetensors").symlink_to(folder / "secret.safetensors")
    return index


@built(3, "a shard with a second name elsewhere", "outside of its folder")
def _second_name(folder: Path) -> Path:
    index = _index(folder, "s.safetensors")
    os.link(folder / "secret.safetensors", index.parent / "s.safetensors")
    return index


def _written_meanwhile(path: Path) -> None:
    from frostline.porting.readers.formats import open_source

    with open_source(path) as (source, _):
        with path.open("ab") as file:
            file.write(b"more")
        for tensor in source.tensors:
            tensor.load()


@built(4, "a file that grows while it is read", "changed while it was read", port=_written_meanwhile)
def _growing(folder: Path) -> Path:
    (folder / "a.safetensors").write_bytes(WHOLE)
    return folder / "a.safetensors"


def _shortened_meanwhile(path: Path) -> None:
    from frostline.porting.readers.formats import open_source

    with open_source(path) as (source, _):
        os.truncate(path, 8)
        for tensor in source.tensors:
            tensor.load()


@built(4, "a file that shrinks while it is read", "became shorter|changed while", port=_shortened_meanwhile)
def _shrinking(folder: Path) -> Path:
    (folder / "a.safetensors").write_bytes(WHOLE)
    return folder / "a.safetensors"


def _zero_tail(row: int, name: str) -> None:
    """A file whose last half is zeros, as a download that set its length first leaves it."""
    content = (FILES / name).read_bytes()
    half = len(content) // 2
    raw(row, f"{name} whose last half is not written", content[:half] + bytes(len(content) - half), DAMAGED)


for _name in ("torch/state.pt", "torch/older.pt", "plain/network.npz", "keras3/images.keras", "keras_h5/weights.h5",
              "paddle/protocol4.pdparams", "flax/variables.msgpack"):  # fmt: skip
    _zero_tail(4, _name)


def _half_written(size: int) -> bytes:
    """A file of safetensors of which three quarters were fetched."""
    written = size // 4 * 3 // 4096 * 4096
    head = tensors({"a.weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
    whole = head + b"\1" * size
    return whole[:written] + bytes(len(whole) - written)


raw(4, "a safetensors file that is being fetched", _half_written(1 << 20), "only zeros in the last")


@built(4, "a TensorFlow checkpoint whose data are not written", DAMAGED)
def _zero_data(folder: Path) -> Path:
    index = copied(folder, "tensorflow/names.ckpt.index")
    data = index.with_name("names.ckpt.data-00000-of-00001")
    data.write_bytes(bytes(data.stat().st_size))
    return index


@built(4, "an Orbax checkpoint whose data are not written", "damaged")
def _zero_database(folder: Path) -> Path:
    path = copied(folder, "orbax/ocdbt")
    for part in (*path.glob("d/*"), *path.glob("ocdbt.process_0/d/*")):
        part.write_bytes(bytes(part.stat().st_size))
    return path


raw(5, "a shape of 2^65 elements", tensors({"a": {**ENTRY, "shape": [2**62, 8]}}, b"1234"), DAMAGED)
raw(5, "a shape whose size is 0 modulo 2^64", tensors({"a": {**ENTRY, "shape": [2**32, 2**32]}}, b"1234"), DAMAGED)
raw(6, "a negative dimension", tensors({"a": {**ENTRY, "shape": [-1, -1]}}, b"1234"), DAMAGED)
raw(6, "65 dimensions", tensors({"a": {**ENTRY, "shape": [1] * 65}}, b"1234"), DAMAGED)
raw(6, "a dimension of 2^63", tensors({"a": {**ENTRY, "shape": [2**63]}}, b"1234"), DAMAGED)


@built(7, "10^7 tensors", DAMAGED)
def _many(folder: Path) -> Path:
    (folder / "a.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 10**7, 0))
    os.truncate(folder / "a.gguf", 10**8)
    return folder / "a.gguf"


@built(7, "a name of 100 MB", DAMAGED)
def _long_name(folder: Path) -> Path:
    (folder / "a.gguf").write_bytes(struct.pack("<4sIQQQ", b"GGUF", 3, 1, 0, 10**8))
    os.truncate(folder / "a.gguf", 10**8 + 100)
    return folder / "a.gguf"


for _name, _words in (("a\0b", "a zero"), ("a\x1b[2J", "a control character"), ("a\u202eb", "a turn of direction")):
    raw(7, f"a name with {_words}", tensors({_name: ENTRY}, b"1234"), DAMAGED)
raw(7, "a name that is a path to elsewhere", tensors({"../../x.weight": ENTRY}, b"1234"), "", reads="safetensors")
raw(8, "a pickle with two entries of one name", b"\x80\x02}(U\x01aK\x01U\x01aK\x02u.", "two entries named|damaged")
raw(8, "two names that are one without wrappers", tensors(
    {"module.a.weight": ENTRY, "module._orig_mod.a.weight": {**ENTRY, "data_offsets": [4, 8]}}, b"12345678"
), "prefixes of wrappers were removed")  # fmt: skip


def _into_linear(path: Path) -> None:
    from torch import nn

    import frostline as fl

    fl.port(path, nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def _network(**changes: np.ndarray) -> bytes:
    from safetensors.numpy import save

    values = {"0.weight": np.eye(2), "0.bias": np.zeros(2), "1.weight": np.ones(2), "1.bias": np.zeros(2),
              "1.running_mean": np.zeros(2), "1.running_var": np.ones(2)}  # fmt: skip
    return save({name: np.float32(value) for name, value in (values | changes).items()})


@built(9, "weights that are NaN", "NaN, infinite, or a negative variance", port=_into_linear)
def _nan(folder: Path) -> Path:
    (folder / "a").write_bytes(_network(**{"0.weight": np.array([[1, np.nan], [0, 1]])}))
    return folder / "a"


@built(9, "weights that are infinite", "NaN, infinite, or a negative variance", port=_into_linear)
def _infinite(folder: Path) -> Path:
    (folder / "a").write_bytes(_network(**{"0.bias": np.array([np.inf, 0])}))
    return folder / "a"


@built(9, "a negative variance", "NaN, infinite, or a negative variance", port=_into_linear)
def _variance(folder: Path) -> Path:
    (folder / "a").write_bytes(_network(**{"1.running_var": np.array([1, -1e-3])}))
    return folder / "a"


@built(10, "a header of 100 MB", "format .* unknown|damaged")
def _large_header(folder: Path) -> Path:
    (folder / "a").write_bytes(struct.pack("<Q", 10**8 + 1) + b'{"a":')
    os.truncate(folder / "a", 10**8 + 100)
    return folder / "a"


raw(10, "a header that is a list", tensors(b"[]"), "format .* unknown")
raw(10, "a header that is not UTF-8", tensors(b'{"\xff": 1}'), DAMAGED)
raw(10, "JSON nested 10^5 deep", tensors(b'{"a":' + b"[" * 100_000), DAMAGED)
_TWO = {"a": ENTRY, "b": {**ENTRY, "data_offsets": [0, 4]}}
raw(11, "tensors that overlap", tensors(_TWO, b"1234"), DAMAGED)
raw(11, "bytes between tensors", tensors({"a": ENTRY, "b": {**ENTRY, "data_offsets": [8, 12]}}, b"1" * 12), DAMAGED)
raw(11, "an end before its start", tensors({"a": {**ENTRY, "data_offsets": [4, 0]}}, b"1234"), DAMAGED)
raw(11, "a shape of other bytes", tensors({"a": {**ENTRY, "shape": [2]}}, b"1234"), DAMAGED)
raw(11, "bytes at the end", tensors({"a": ENTRY}, b"12345"), DAMAGED)
raw(11, "an unknown dtype", tensors({"a": {**ENTRY, "dtype": "O"}}, b"1234"), "a dtype that PyTorch does not have")
_KEY = json.dumps(ENTRY).encode()
raw(12, "a name twice", tensors(b'{"a":' + _KEY + b',"a":' + _KEY + b"}", b"1234"), "twice")


@built(13, "a shard elsewhere", "outside of its folder")
def _shard(folder: Path) -> Path:
    return _index(folder, "../secret.safetensors")


@built(13, "a shard that is missing", "Cannot open")
def _missing(folder: Path) -> Path:
    return _index(folder, "s.safetensors")


@built(13, "a shard with a tensor that the index does not list", "damaged")
def _unlisted(folder: Path) -> Path:
    index = _index(folder, "s.safetensors")
    more = {"a.weight": ENTRY, "b.weight": {**ENTRY, "data_offsets": [4, 8]}}
    (index.parent / "s.safetensors").write_bytes(tensors(more, b"12345678"))
    return index
