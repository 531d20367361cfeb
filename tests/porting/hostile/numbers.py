"""Rows 27 to 29: arrays of NumPy."""

from __future__ import annotations

import io
import struct

import numpy as np

from .archives import zipped
from .case import raw
from .containers import DAMAGED

OTHER = "an array whose elements are not numbers"


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    """A `.npy` with this header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


_OBJECTS = io.BytesIO()
np.save(_OBJECTS, np.array([{"a": 1}], dtype=object), allow_pickle=True)
raw(27, "objects", _OBJECTS.getvalue(), OTHER)
raw(27, "objects in an archive", zipped(("a.npy", _OBJECTS.getvalue())), OTHER)
raw(28, "10^12 elements in 16 bytes", npy("'<f4'", "(1000000, 1000000)", bytes(16)), DAMAGED)
raw(28, "the same in an archive", zipped(("a.npy", npy("'<f4'", "(1000000, 1000000)", bytes(16)))), DAMAGED)
raw(29, "a header of 65 KB", b"\x93NUMPY\1\0\xff\xff" + b" " * 70_000, DAMAGED)
raw(29, "a header nested deep", b"\x93NUMPY\1\0" + struct.pack("<H", 9_000) + b"[" * 9_000, OTHER)
raw(29, "a header that would be evaluated", npy("__import__('os').system('true')", "(1,)", b"1234"), OTHER)
for _descr in ("[('a', '<f4')]", "'|V3'", "'|S4'", "'<M8[s]'"):
    raw(29, f"the dtype {_descr}", npy(_descr, "(1,)", b"1234"), OTHER)
