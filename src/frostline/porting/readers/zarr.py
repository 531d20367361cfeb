"""Metadata of zarr arrays (versions 2 and 3), checked before they are passed to tensorstore.

References:
    Zarr storage specification, versions 2 and 3; the codec `sharding_indexed`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.porting.readers import strict_json
from frostline.porting.readers.tensor_data import DTYPES, num_bytes

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

_DTYPES = {
    "f2": "float16", "f4": "float32", "f8": "float64", "i1": "int8", "i2": "int16", "i4": "int32", "i8": "int64",
    "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "b1": "bool", "c8": "complex64", "c16": "complex128",
}  # fmt: skip
_COMPRESSORS = frozenset({"zstd", "blosc", "gzip", "zlib", "bz2"})
_CODECS = frozenset({"bytes", "zstd", "blosc", "gzip", "crc32c", "transpose", "sharding_indexed"})
_MAX_CHUNKS = 1_000_000


@dataclass(frozen=True)
class ZarrArray:
    """One array.

    Attributes:
        version: 2 or 3.
        shape: Its shape.
        dtype: Its dtype in `tensor_data.DTYPES`.
        num_chunks: The number of its chunks.
    """

    version: int
    shape: tuple[int, ...]
    dtype: str
    num_chunks: int

    @property
    def num_bytes(self) -> int:
        """The size of the array in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def version_2(file: WeightFile, name: str, text: bytes) -> ZarrArray:
    """Read `.zarray`.

    Args:
        file: The file, for errors.
        name: The name of the array.
        text: The metadata.

    Raises:
        PortError: If the metadata are damaged, or state an unsupported codec, filter or fill value.
    """
    stated = _mapping(file, name, strict_json.parse(file, text))
    compressor = stated.get("compressor")
    if compressor is not None and str(_mapping(file, name, compressor).get("id")) not in _COMPRESSORS:
        raise _refused(file, name, f"the compressor {str(compressor)[:60]}")
    if stated.get("filters") or stated.get("order", "C") != "C" or not _is_plain(stated.get("fill_value")):
        raise _refused(file, name, f"filters, order, or the fill value {str(stated.get('fill_value'))[:60]}")
    return _array(file, name, 2, stated.get("shape"), stated.get("chunks"), str(stated.get("dtype")))


def version_3(file: WeightFile, name: str, text: bytes) -> ZarrArray:
    """Read `zarr.json`; arguments and errors as for `version_2`."""
    stated = _mapping(file, name, strict_json.parse(file, text))
    grid = _mapping(file, name, stated.get("chunk_grid"))
    if stated.get("node_type") != "array" or grid.get("name") != "regular" or stated.get("storage_transformers"):
        raise _refused(file, name, f"a {stated.get('node_type')!r} with the grid {grid.get('name')!r}")
    _check_codecs(file, name, stated.get("codecs"), 0)
    if not _is_plain(stated.get("fill_value")):
        raise _refused(file, name, f"the fill value {str(stated.get('fill_value'))[:60]}")
    chunks = _mapping(file, name, grid.get("configuration")).get("chunk_shape")
    return _array(file, name, 3, stated.get("shape"), chunks, str(stated.get("data_type")))


def _check_codecs(file: WeightFile, name: str, codecs: Any, depth: int) -> None:
    if not isinstance(codecs, list) or depth > 2:
        raise _refused(file, name, f"the codecs {str(codecs)[:60]}")
    for codec in codecs:
        stated = _mapping(file, name, codec)
        if str(stated.get("name")) not in _CODECS:
            raise _refused(file, name, f"the codec {str(stated.get('name'))[:60]!r}")
        if stated["name"] == "sharding_indexed":
            inner = _mapping(file, name, stated.get("configuration"))
            for field in ("codecs", "index_codecs"):
                _check_codecs(file, name, inner.get(field), depth + 1)


def _array(file: WeightFile, name: str, version: int, shape: Any, chunks: Any, dtype: str) -> ZarrArray:
    known = _DTYPES.get(dtype[1:], "") if version == 2 and dtype[:1] in ("<", "|") else dtype
    if known not in DTYPES:
        raise _refused(file, name, f"the dtype {dtype[:40]!r}")
    if not all(isinstance(sizes, list) and all(type(size) is int for size in sizes) for sizes in (shape, chunks)):
        raise file.damaged(f"the array {name!r} of shape {str(shape)[:60]} in chunks of {str(chunks)[:60]}")
    declared = num_bytes(file, shape, known)
    if len(chunks) != len(shape) or any(size < 1 for size in chunks):
        raise file.damaged(f"the array {name!r} of shape {shape} in chunks of {chunks}")
    if num_bytes(file, chunks, known) > 2 * declared + (1 << 20):
        raise file.damaged(f"the array {name!r} of shape {shape} in chunks of {chunks}, which are too large")
    num_chunks = math.prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    if num_chunks > _MAX_CHUNKS:
        raise file.damaged(f"the array {name!r} in {num_chunks} chunks; the limit is {_MAX_CHUNKS}")
    return ZarrArray(version, tuple(shape), known, num_chunks)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (int, float)) or value in ("NaN", "Infinity", "-Infinity")


def _mapping(file: WeightFile, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise file.damaged(f"the metadata of {name!r} contain {str(value)[:60]} instead of an object")
    return value


def _refused(file: WeightFile, name: str, received: str) -> Exception:
    return file.refused(
        "The checkpoint stores an array in an unsupported form.", f"{name!r}: {received}",
        "save the checkpoint again with Orbax's default settings, or save the arrays with numpy.savez.",
    )  # fmt: skip
