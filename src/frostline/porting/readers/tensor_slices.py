"""TensorFlow checkpoints of version 1: one table that contains the tensors themselves, in slices.

References:
    TensorFlow, `core/util/saved_tensor_slice.proto`: the entry with the empty key lists all tensors, every other
    one is a slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.readers.protobuf import Span, Wire, beginning
from frostline.porting.readers.tensor_bundle import DTYPE_NAMES, Bundle, Entry, check_slices, extents_of, shape_of
from frostline.porting.readers.tensor_data import num_bytes
from frostline.porting.readers.tensorflow_tensor import typed_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

_META, _DATA = 1, 2


def is_first_version(file: WeightFile, rows: Mapping[bytes, bytes]) -> bool:
    """Whether a table is a checkpoint of version 1."""
    return any(
        key == _META and isinstance(value, Span) for key, value in beginning(Wire(file, rows.get(b"", b"")).span(), 1)
    )


def tensor_slices(file: WeightFile, rows: Mapping[bytes, bytes]) -> Bundle:
    """The tensors of such a table, in the same form as those of version 2.

    Args:
        file: The file.
        rows: Its table; the CRCs of its blocks were verified when it was read.

    Raises:
        PortError: If slices are missing, overlap, or are smaller than declared.
    """
    meta = Wire(file, rows[b""]).message().message(_META)
    entries: dict[str, Entry] = {}
    for saved in meta.messages(1) if meta is not None else ():
        name, dtype = saved.text(1), saved.integer(3)
        if name in entries:
            raise file.damaged(f"two tensors named {name!r}")
        shape = shape_of(saved.message(2))
        entries[name] = Entry(name, dtype, shape, 0, 0, 0, 0, tuple(extents_of(part) for part in saved.messages(4)))
        if dtype in DTYPE_NAMES:
            num_bytes(file, shape, DTYPE_NAMES[dtype])
    parts = {key: _part(file, key, row, entries) for key, row in rows.items() if key}
    found = Bundle(file, file.path.name, 1, False, entries, parts)
    for entry in entries.values():
        if entry.dtype in DTYPE_NAMES:
            check_slices(found, entry)
    return found


def _part(file: WeightFile, key: bytes, row: bytes, entries: Mapping[str, Entry]) -> Entry:
    saved = Wire(file, row).message().message(_DATA)
    values = saved.message(3) if saved is not None else None
    whole = entries.get(saved.text(1)) if saved is not None else None
    place = saved.message(2) if saved is not None else None
    if saved is None or values is None or whole is None or place is None:
        raise file.damaged(f"the slice {key[:60]!r} of a tensor that is not listed")
    extents = extents_of(place)
    if len(extents) != len(whole.shape):
        raise file.damaged(f"the slice {key[:60]!r}, which does not fit its tensor of shape {whole.shape}")
    shape = tuple(size if extent == (0, -1) else extent[1] for extent, size in zip(extents, whole.shape, strict=True))
    name = DTYPE_NAMES.get(whole.dtype, "")
    if name and num_bytes(file, shape, name) > 8 * len(row):  # a value takes at least one byte
        raise file.damaged(f"the slice {key[:60]!r} of shape {shape} in {len(row)} bytes")
    return Entry(whole.key, whole.dtype, shape, 0, 0, 0, 0, raw=lambda: _raw(values, name))


def _raw(values: Message, name: str) -> bytes:
    content = values.span(4)
    return content.bytes() if content is not None and content.size else typed_values(values, name)
