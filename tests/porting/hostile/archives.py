"""Rows 14 to 17: zip archives (`.keras`, `.pt`, `.npz`, `.skops`)."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile

import numpy as np

from .case import raw
from .containers import DAMAGED, arrays


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytearray:
    """An archive; members may have one name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return bytearray(buffer.getvalue())


def array(values: np.ndarray) -> bytes:
    """A `.npy`."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


ONE = array(np.ones(3, np.float32))


def _changed(at: int, value: int) -> bytearray:
    """An archive of one array; two bytes of both headers changed, or of the first alone (a negative place)."""
    data = zipped(("a.npy", ONE))
    central = data.index(b"PK\1\2")
    data[abs(at) : abs(at) + 2] = struct.pack("<H", value)
    if at > 0:
        data[central + at + 2 : central + at + 4] = struct.pack("<H", value)
    return data


def _lying() -> bytearray:
    data = zipped(("a.npy", array(np.zeros(1 << 20, np.uint8))), method=zipfile.ZIP_DEFLATED)
    central = data.index(b"PK\1\2")
    data[22:26] = data[central + 24 : central + 28] = struct.pack("<I", 1_000)
    return data


def _shared() -> bytearray:
    data = zipped(("a.npy", ONE), ("b.npy", ONE))
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    data[second + 42 : second + 46] = bytes(4)
    return data


def _counted() -> bytearray:
    data = zipped(("a.npy", ONE))
    data[-12:-10] = struct.pack("<H", 60_000)
    return data


def _long_64() -> bytes:
    """The record of zip64 counts 2^60 members."""
    data = bytes(zipped(("a.npy", ONE)))
    end = data.index(b"PK\5\6")
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2**60, 2**60, 50, 100)
    return data[:end] + record + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1) + data[end:]


_BOMB = [(f"{number}.npy", array(np.zeros(1 << 23, np.uint8))) for number in range(16)]
raw(14, "a bomb", zipped(*_BOMB, method=zipfile.ZIP_DEFLATED), "more than 100 times")
raw(14, "a member that unpacks to more than it states", _lying(), DAMAGED)
raw(14, "members that share bytes", _shared(), DAMAGED)
raw(14, "60,000 members stated", _counted(), DAMAGED)
raw(14, "2^60 members stated by zip64", _long_64(), DAMAGED)
raw(15, "two members of one name", zipped(("a.npy", ONE), ("a.npy", ONE)), "two arrays named")
raw(15, "two headers with two names", zipped(("a.npy", ONE)).replace(b"a.npy", b"b.npy", 1), "contradict each other")
raw(16, "an encrypted member", _changed(6, 1), "is encrypted")
raw(16, "an odd flag", _changed(6, 0x20), "is encrypted, or compressed by an unsupported method")
raw(16, "a flag in one header", _changed(-6, 8), "contradict each other")
_WRONG = bytearray(arrays(a=np.ones(3)))
_WRONG[60] ^= 1
raw(16, "a wrong checksum", _WRONG, DAMAGED)
for _name in ("../a.npy", "/a.npy", "C:/a.npy", "a\\b.npy"):
    _data = zipped(("x" * len(_name), ONE)).replace(b"x" * len(_name), _name.encode())
    raw(17, f"a member named {_name}", _data, "a member of the archive named")
_LINK = zipfile.ZipInfo("a.npy")
_LINK.external_attr = (stat.S_IFLNK | 0o777) << 16
raw(17, "a member that is a link", zipped((_LINK, b"/etc/passwd")), "is a link")
