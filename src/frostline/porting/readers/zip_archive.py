"""Strict zip archives: both tables of contents must agree, members are never extracted, every byte is accounted for."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from frostline.porting.readers.tensor_data import check_names

if TYPE_CHECKING:
    import numpy as np

    from frostline.porting.readers.weight_file import WeightFile

SIGNATURE = b"PK\3\4"
_LOCAL = struct.Struct("<4s5H3I2H")
_END = struct.Struct("<4s4H2IH")
_END64_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_MAX_MEMBERS = 50_000
_ALLOWED_FLAGS = 0x080E  # bits for the compression level, sizes after the data, and names in UTF-8
_SIZES_FOLLOW = 0x0008
_CHUNK_BYTES = 1 << 22
_RECORD_BYTES = 24  # the record of sizes after a member that was written to a stream takes 12 to 24
_SLACK_BYTES = 1 << 12  # more than the code table at the start of a deflate block
# Zeros compress 1000:1, so a small file may expand more (_FLOOR_BYTES); 10 MB that expand to 10 GB are a zip bomb.
_MAX_EXPANSION = 100
_FLOOR_BYTES = 1 << 26


@dataclass(frozen=True)
class Member:
    """One member of an archive.

    Attributes:
        name: The full name.
        start: The offset of its bytes in the file.
        packed: The number of its bytes in the file.
        size: The number of its bytes after decompression.
        is_packed: Whether it is compressed (deflate).
        crc: The CRC-32 of its content.
    """

    name: str
    start: int
    packed: int
    size: int
    is_packed: bool
    crc: int


class Archive:
    """The members of a zip archive, in the order of their bytes.

    Args:
        file: The archive.

    Raises:
        PortError: If it is not a zip archive, or an unusual one: encrypted, with two members of the same name, with
            overlapping members, or with tables of contents that contradict each other.
    """

    def __init__(self, file: WeightFile) -> None:
        self._file = file
        try:
            _check_end(file)
            with zipfile.ZipFile(file) as archive:
                infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
                end = archive.start_dir
            found = [_member(file, info) for info in infos]
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError) as error:
            raise file.damaged(f"zip: {error}") from error
        _check_cover(file, infos, found, end)
        check_names(file, [member.name for member in found])
        if sum(member.size for member in found) > max(_FLOOR_BYTES, _MAX_EXPANSION * file.size):
            raise file.damaged(
                f"members that expand to more than {_MAX_EXPANSION} times the {file.size} bytes of the file"
            )
        self.members = {member.name: member for member in found if not member.name.endswith("/")}

    def array(self, name: str) -> bytes | np.ndarray:
        """As `read`; of a member that is not compressed in memory of its own, as `WeightFile.array_at` gives it."""
        member = self._named(name)
        if member.is_packed or member.packed != member.size:
            return self.read(name)
        raw = self._file.array_at(member.start, member.size)
        self._check(name, member, raw)
        return raw

    def _check(self, name: str, member: Member, raw: bytes | np.ndarray) -> None:
        if len(raw) != member.size or zlib.crc32(raw if isinstance(raw, bytes) else raw.data) != member.crc:
            raise self._file.damaged(f"the member {name!r} does not have the checksum {member.crc:08x}")

    def read(self, name: str) -> bytes:
        """The content of a member; its checksum is verified.

        Raises:
            PortError: If there is no such member, or its content contradicts the table of contents.
        """
        member = self._named(name)
        raw = self._file.read_at(member.start, member.packed)
        if member.is_packed:
            unpacker = zlib.decompressobj(-15)
            try:
                raw = unpacker.decompress(raw, member.size + 1)
            except zlib.error as error:
                raise self._file.damaged(f"the member {name!r}: {error}") from error
            if not unpacker.eof or unpacker.unused_data:
                raise self._file.damaged(f"the member {name!r} does not end where the table of contents states")
        self._check(name, member, raw)
        return raw

    def start(self, name: str, count: int) -> bytes:
        """The first `count` bytes of a member, fewer if it is shorter; its checksum is not verified.

        Raises:
            PortError: If there is no such member, or it cannot be decompressed.
        """
        member = self._named(name)
        if not member.is_packed:
            return self._file.read_at(member.start, min(count, member.size))
        packed = self._file.read_at(member.start, min(member.packed, count + _SLACK_BYTES))
        try:
            return zlib.decompressobj(-15).decompress(packed, count)
        except zlib.error as error:
            raise self._file.damaged(f"the member {name!r}: {error}") from error

    def open(self, name: str) -> io.RawIOBase | io.BytesIO:
        """A member as a file object; an uncompressed member is not copied into memory.

        Raises:
            PortError: As `read`.
        """
        member = self._named(name)
        if member.is_packed:
            return io.BytesIO(self.read(name))
        crc = 0
        for offset in range(0, member.size, _CHUNK_BYTES):
            crc = zlib.crc32(self._file.read_at(member.start + offset, min(_CHUNK_BYTES, member.size - offset)), crc)
        if crc != member.crc:
            raise self._file.damaged(f"the member {name!r} does not have the checksum {member.crc:08x}")
        return _Window(self._file, member.start, member.size)

    def _named(self, name: str) -> Member:
        if name not in self.members:
            raise self._file.damaged(f"no member {name!r} in the archive")
        return self.members[name]


class _Window(io.RawIOBase):
    """A part of a file, as a file object."""

    def __init__(self, file: WeightFile, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        view[:count] = self._file.array_at(self._start + self._at, count).data
        self._at += count
        return count


def _check_end(file: WeightFile) -> None:
    """Check that the file ends with the end record of the archive, and that the record states few enough members."""
    if file.start(4) != SIGNATURE or file.size < _END.size:
        raise file.damaged("a zip archive that does not begin with a member")
    last = _END.unpack(file.read_at(file.size - _END.size, _END.size))
    if last[0] != b"PK\5\6" or last[7] != 0:
        raise file.damaged("bytes after the end record of the zip archive, or no end record")
    count = last[4]
    place = file.size - _END.size - _END64_LOCATOR.size
    if place >= 0:
        locator = _END64_LOCATOR.unpack(file.read_at(place, _END64_LOCATOR.size))
        if locator[0] == b"PK\6\7":
            count = _END64.unpack(file.read_at(locator[2], _END64.size))[7]
    if count > _MAX_MEMBERS:
        raise file.damaged(f"a zip archive of {count} members")


def _member(file: WeightFile, info: zipfile.ZipInfo) -> Member:
    """A member; its entry in the central directory must agree with its local header."""
    name = info.orig_filename
    parts = name.removesuffix("/").split("/")
    if "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise file.damaged(f"a member of the archive named {name[:60]!r}")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise file.damaged(f"the member {name!r} is a link")
    if info.flag_bits & ~_ALLOWED_FLAGS or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise file.damaged(
            f"the member {name!r} is encrypted, or compressed by an unsupported method (flags {info.flag_bits:#x}, "
            f"method {info.compress_type})"
        )
    header = _LOCAL.unpack(file.read_at(info.header_offset, _LOCAL.size))
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra_length = header
    raw_name = file.read_at(info.header_offset + _LOCAL.size, name_length)
    agree = (
        signature == SIGNATURE
        and raw_name.decode("utf-8" if flags & 0x800 else "cp437") == name
        and (flags, method) == (info.flag_bits, info.compress_type)
        and (flags & _SIZES_FOLLOW or crc == info.CRC)
        and all(
            flags & _SIZES_FOLLOW or mine in (theirs, 0xFFFFFFFF)
            for mine, theirs in ((packed, info.compress_size), (size, info.file_size))
        )
    )
    if not agree or (method == zipfile.ZIP_STORED and info.compress_size != info.file_size):
        raise file.damaged(f"the two headers of the member {name!r} contradict each other")
    start = info.header_offset + _LOCAL.size + name_length + extra_length
    return Member(name, start, info.compress_size, info.file_size, method == zipfile.ZIP_DEFLATED, info.CRC)


def _check_cover(file: WeightFile, infos: list[zipfile.ZipInfo], members: list[Member], end: int) -> None:
    """Check that members do not overlap, and that there are no other bytes between them."""
    at = slack = 0
    for info, member in zip(infos, members, strict=True):
        if not 0 <= info.header_offset - at <= slack:
            raise file.damaged(f"overlapping members, or unaccounted bytes between members, before {member.name!r}")
        at, slack = member.start + member.packed, _RECORD_BYTES if info.flag_bits & _SIZES_FOLLOW else 0
    if not 0 <= end - at <= slack:
        raise file.damaged("unaccounted bytes between the members and the central directory of the archive")
