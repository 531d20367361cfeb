"""NumPy's `.npy` and `.npz`: plain arrays only; headers are compared with the stored bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from frostline.core.errors import nearest
from frostline.porting.readers import haiku, state_dict, zip_archive
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.keras_places import file_order
from frostline.porting.readers.tensor_data import check_names, num_bytes, tensor_of
from frostline.porting.readers.zip_archive import Archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
SIGNATURE = b"\x93NUMPY"
_MAX_HEADER_BYTES = 10_000  # NumPy's own limit
_FIELDS = re.compile(
    r"""\{\s*(?:(?:'descr':\s*'(?P<descr>[^']*)'|'fortran_order':\s*(?P<fortran>True|False)"""
    r"""|'shape':\s*\((?P<shape>[\d,\sL]*)\))\s*,?\s*){3}\}\s*""",
)
_DTYPES = {
    "f8": "float64", "f4": "float32", "f2": "float16", "V2": "bfloat16", "i8": "int64", "i4": "int32", "i2": "int16",
    "i1": "int8", "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8", "b1": "bool", "c8": "complex64",
    "c16": "complex128",
}  # fmt: skip
# The leaves of each framework; if the names fit several frameworks, the most frequent one is used.
_LEAVES = {
    "flax": ("kernel", "scale", "embedding", "mean", "var", "pos_embedding"),
    "torch": ("weight", "running_mean", "running_var", "num_batches_tracked", "in_proj_weight"),
    "keras": ("gamma", "beta", "moving_mean", "moving_variance", "embeddings", "depthwise_kernel", "recurrent_kernel"),
    "tensorflow": ("weights", "biases"),
}
# The entries of training states that contain the weights, in big_vision and similar code.
_ROOTS = ("params/", "opt/target/")
_STATISTICS = ("batch_stats/",)  # the collection of Flax beside the weights
_OF_HAIKU = "state/"  # the collection of Haiku beside the weights, where it has averages


@dataclass(frozen=True)
class _Header:
    """The header of an array."""

    size: int
    dtype: str
    shape: tuple[int, ...]
    is_fortran: bool
    is_big_endian: bool


def claims(file: WeightFile) -> bool:
    """Whether the file is one NumPy array, or an archive that contains only such arrays."""
    start = file.start(len(SIGNATURE))
    if start.startswith(zip_archive.SIGNATURE):
        members = Archive(file).members
        return bool(members) and all(name.endswith(".npy") for name in members)
    return start == SIGNATURE


def read(file: WeightFile, key: str | None = None) -> Source:
    """Every array of the file.

    Args:
        file: A `.npy` or `.npz` file.
        key: The prefix of the wanted names, such as `ema`; None selects the arrays of the network.

    Raises:
        PortError: If the file is damaged, or contains Python objects, which cannot be read without executing code.
    """
    if file.start(len(SIGNATURE)) == SIGNATURE:
        file.check_no_key(key)
        header = _header(file, file.start(_MAX_HEADER_BYTES + 12), "array")
        end = header.size + num_bytes(file, header.shape, header.dtype)
        if end + len(SIGNATURE) <= file.size and file.read_at(end, len(SIGNATURE)) == SIGNATURE:
            raise series(file)
        _check_size(file, header, file.size, "array")
        load = partial(_load_file, file, header)
        return Source("NumPy array", "numpy", (SourceTensor("array", header.shape, header.dtype, "", "", load),))
    archive = Archive(file)
    found: dict[str, SourceTensor] = {}
    for member in archive.members.values():
        name = member.name.removesuffix(".npy")
        found[name] = array_of(file, archive, member.name, name)
    check_names(file, list(found))
    return _source(file, found, key)


def series(file: WeightFile) -> Exception:
    """The error for a sequence of NumPy arrays without names, which is the `.eqx` format of Equinox."""
    return file.refused(
        "The file contains a sequence of arrays without names, as Equinox writes them.",
        f"a file of {file.size} bytes", _EXPORT,
    )  # fmt: skip


_EXPORT = (
    "load it with Equinox, and save the arrays with their names: leaves, _ = jax.tree_util.tree_flatten_with_path("
    "equinox.filter(model, equinox.is_array)); numpy.savez('model.npz', **{jax.tree_util.keystr(path, simple=True, "
    "separator='/'): numpy.asarray(leaf) for path, leaf in leaves}); then port model.npz."
)


def array_of(file: WeightFile, archive: Archive, member: str, name: str) -> SourceTensor:
    """The array in a member of an archive, with the given name.

    Raises:
        PortError: If the archive has no such member, or it is not an array of numbers.
    """
    start = archive.start(member, _MAX_HEADER_BYTES + 12)
    header = _header(file, start, name)
    _check_size(file, header, archive.members[member].size, name)
    return SourceTensor(name, header.shape, header.dtype, "", "", partial(_load_member, file, archive, member, header))


def _header(file: WeightFile, start: bytes, name: str) -> _Header:
    """Parse the header at the start of an array."""
    version = start[6:8]
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(version)
    if start[:6] != SIGNATURE or width is None:
        raise file.damaged(f"{name!r} is not a NumPy array")
    length = int.from_bytes(start[8 : 8 + width], "little")
    text = start[8 + width : 8 + width + length]
    if length > _MAX_HEADER_BYTES or len(text) < length:
        raise file.damaged(f"{name!r} has a header of {length} bytes; the limit is {_MAX_HEADER_BYTES}")
    fields = _FIELDS.fullmatch(text.decode("latin-1"))
    if fields is None or None in fields.groups():
        raise _objects(file, name, text[:80].decode("latin-1"))
    descr = fields["descr"]
    dtype = _DTYPES.get(descr.lstrip("<>|="))
    if dtype is None:
        raise _objects(file, name, descr[:80])
    shape = tuple(int(part) for part in re.findall(r"\d{1,20}", fields["shape"]))
    return _Header(8 + width + length, dtype, shape, fields["fortran"] == "True", descr.startswith(">"))


def _check_size(file: WeightFile, header: _Header, size: int, name: str) -> None:
    """Compare the declared size of an array, including its header, with the number of bytes.

    Raises:
        PortError: If they differ.
    """
    if header.size + num_bytes(file, header.shape, header.dtype) != size:
        text = f"{name!r} of shape {header.shape[:8]} and type {header.dtype} in {size - header.size} bytes"
        raise file.damaged(text[:200])


def _objects(file: WeightFile, name: str, received: str) -> Exception:
    return file.refused(
        "The file contains an array whose elements are not numbers.", f"{received!r} in {name!r}"[:200],
        "save the numeric arrays only; arrays of objects are pickles, which are not loaded.",
    )  # fmt: skip


def _load_file(file: WeightFile, header: _Header) -> Tensor:
    return _tensor(file, file.array_at(header.size, file.size - header.size), header)


def _load_member(file: WeightFile, archive: Archive, name: str, header: _Header) -> Tensor:
    return _tensor(file, archive.array(name)[header.size :], header)


def _tensor(file: WeightFile, raw: bytes | np.ndarray, header: _Header) -> Tensor:
    shape = header.shape[::-1] if header.is_fortran else header.shape
    values = tensor_of(file, raw, shape, header.dtype, is_big_endian=header.is_big_endian)
    return values.permute(*range(values.ndim)[::-1]).contiguous() if header.is_fortran else values


def _source(file: WeightFile, found: Mapping[str, SourceTensor], key: str | None) -> Source:
    framework = _framework(list(found))
    if framework == "torch":
        names = state_dict.named(file, list(found), key)
        return Source("NumPy arrays", "torch", _placed(found, names.places), "file", (), names.dropped, names.notes)
    paths = {name: re.sub(r":\d+$", "", name) for name in found}
    if not any("/" in path for path in paths.values()):
        paths = {name: path.replace(".", "/") for name, path in paths.items()}
    places: dict[str, tuple[str, str]] = {}
    dropped: dict[str, str] = {}
    notes: list[str] = []
    roots = _ROOTS if key is None else (f"{key.rstrip('/')}/",)
    root = next((root for root in roots if any(path.startswith(root) for path in paths.values())), "")
    if key is not None and not root:
        raise file.refused(
            f"The file contains no arrays under {key!r}.", f"{len(found)} arrays, such as {nearest(key, found)}",
            "leave the key out, or pass a prefix of the names of the arrays.",
        )  # fmt: skip
    if root:
        notes.append(f"The weights were taken from {root!r}.")
    beside = (*_STATISTICS, _OF_HAIKU) if haiku.has_averages(paths.values(), _OF_HAIKU) else _STATISTICS
    for name in sorted(found, key=file_order):
        path = paths[name]
        if path.startswith((root, *beside)):
            inner = path.removeprefix(next((one for one in beside if path.startswith(one)), root))
            unit, _, leaf = inner.rpartition("/")
            places[name] = (unit, leaf)
        else:
            other = f"outside of {root!r}" if found[name].shape else "counter"
            dropped[name] = "optimizer slot" if path.startswith("opt/") else other
    placed = _placed(found, places)
    of_haiku = haiku.taken(placed) if framework in ("flax", "keras", "numpy") else None
    if of_haiku is not None:
        framework, placed = "haiku", of_haiku[0]
        dropped |= of_haiku[1]
        notes.append(haiku.NOTE)
    if framework == "numpy":
        notes.append("The names of the arrays fit no framework: their layout is unknown.")
    if framework == "flax" and not root and not any(_end(name) in _LEAVES["flax"][1:] for name in found):
        notes.append("The names fit Flax and Keras, whose layouts of transposed convolutions differ; Flax was assumed.")
    if any(tensor.dtype == "bfloat16" for tensor in found.values()):
        notes.append("Elements of two bytes without a dtype were read as bfloat16, which JAX stores in this form.")
    return Source("NumPy arrays", framework, placed, "numbers", (), MappingProxyType(dropped), tuple(notes))


def _placed(found: Mapping[str, SourceTensor], places: Mapping[str, tuple[str, str]]) -> tuple[SourceTensor, ...]:
    return tuple(
        SourceTensor(name, found[name].shape, found[name].dtype, unit, leaf, found[name].load)
        for name, (unit, leaf) in places.items()
    )


def _framework(names: list[str]) -> str:
    """The framework whose leaves the names end with; `numpy` if they fit no framework."""
    counts = {framework: sum(_end(name) in words for name in names) for framework, words in _LEAVES.items()}
    counts["keras"] += sum(2 for name in names if name.endswith(":0"))
    best = max(counts, key=lambda framework: counts[framework])
    return best if counts[best] else "numpy"


def _end(name: str) -> str:
    return re.split(r"[./]", re.sub(r":\d+$", "", name))[-1]
