import io
import random
import stat
import struct
import zipfile
import zlib

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import zip_archive
from frostline.porting.readers.weight_file import WeightFile
from frostline.porting.readers.zip_archive import Archive

CONTENT = {"config.json": b"{}", "folder/data.npy": bytes(range(256)) * 20, "empty": b""}


def zipped(content=CONTENT, method=zipfile.ZIP_STORED, **names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in {**content, **names}.items():
            archive.writestr(name, data)
    return bytearray(buffer.getvalue())


@pytest.fixture
def opened(tmp_path):
    files = []

    def open_it(data):
        (tmp_path / f"{len(files)}.zip").write_bytes(data)
        files.append(WeightFile(tmp_path / f"{len(files)}.zip"))
        return Archive(files[-1])

    yield open_it
    for file in files:
        file.close()


def refuse(opened, data, received):
    with pytest.raises(PortError, match="damaged") as caught:
        opened(data)
    assert received in caught.value.received


def streamed(method):
    """As a writer that cannot seek makes it: sizes follow the data."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

        def tell(self):
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, data in CONTENT.items():
            archive.writestr(name, data)
    return pipe.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("make", [lambda method: zipped(method=method), streamed], ids=["file", "stream"])
def test_members_are_read(opened, method, make):
    archive = opened(make(method))
    assert list(archive.members) == list(CONTENT)
    for name, content in CONTENT.items():
        assert archive.read(name) == content
        assert archive.start(name, 100) == content[:100]
        inner = archive.open(name)
        assert inner.read() == content
        assert inner.seek(-10, io.SEEK_END) >= 0 or not content
        assert inner.read(3) == content[-10:][:3]
    with pytest.raises(PortError, match="damaged"):
        archive.read("missing")


def test_folders_and_large_headers_are_no_members(opened, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.mkdir("folder") if hasattr(archive, "mkdir") else archive.writestr("folder/", b"")
        with archive.open("folder/a", "w", force_zip64=True) as member:
            member.write(b"abc")
    assert list(opened(buffer.getvalue()).members) == ["folder/a"]


def test_duplicate_members_are_refused(opened):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    refuse(opened, buffer.getvalue(), "two arrays named 'a'")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "C:/a", "a\\b", "a//b", "./a"])
def test_names_that_are_paths_to_elsewhere_are_refused(opened, name):
    data = zipped({"x" * len(name): b"1"}).replace(b"x" * len(name), name.encode())
    refuse(opened, data, "a member of the archive named")


def test_links_are_refused(opened):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("a")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refuse(opened, buffer.getvalue(), "is a link")


@pytest.mark.parametrize("flag", [0x0001, 0x0020, 0x0040, 0x2000])
def test_encrypted_and_odd_members_are_refused(opened, flag):
    data = zipped({"a": b"1"})
    central = data.index(b"PK\1\2")
    data[6:8] = data[central + 8 : central + 10] = struct.pack("<H", flag)
    refuse(opened, data, "is encrypted, or compressed by an unsupported method")


def test_other_methods_are_refused(opened):
    refuse(opened, zipped({"a": b"1" * 100}, zipfile.ZIP_BZIP2), "method 12")


@pytest.mark.parametrize("offset", [6, 8, 14, 18, 22, 30], ids=["flags", "method", "crc", "packed", "size", "name"])
def test_the_two_headers_of_a_member_must_agree(opened, offset):
    data = zipped({"abc": b"123"})
    data[offset] ^= 2
    refuse(opened, data, "contradict each other")


def test_the_checksum_is_compared(opened):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = random.Random(0).randbytes(1000)
        data = zipped({"a": content}, method)
        data[200] ^= 1
        archive = opened(data)
        for read in (archive.read, archive.open):
            with pytest.raises(PortError, match="damaged"):
                read("a")


def test_bytes_outside_of_members_are_refused(opened):
    whole = zipped()
    refuse(opened, b"GIF89a" + whole, "does not begin with a member")
    refuse(opened, whole + b"\0", "bytes after the end")
    refuse(opened, whole[:-1], "bytes after the end")
    commented = whole[:-2] + struct.pack("<H", 3) + b"abc"
    refuse(opened, commented, "bytes after the end")
    hidden = zipped({"a": b"1", "hide": b"secret"})
    first = hidden.index(b"PK\1\2")
    second = hidden.index(b"PK\1\2", first + 4)
    end = hidden.index(b"PK\5\6")
    cut = bytearray(hidden[:first] + hidden[first:second] + hidden[end:])
    cut[-22:] = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, second - first, first, 0)
    refuse(opened, cut, "unaccounted bytes between the members and the central directory")


def test_members_that_share_bytes_are_refused(opened):
    data = zipped({"a": b"1" * 100, "b": b"1" * 100})
    central = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    data[central + 42 : central + 46] = struct.pack("<I", 0)  # the second entry points to the first member
    with pytest.raises(PortError, match="damaged"):
        opened(data)
    # Each member holds the next one whole: the quoted bomb of Fifield (2019).
    inner = zipped({"b": b"1"})
    outer = zipped({"a": bytes(inner[: inner.index(b"PK\1\2")])})
    names = outer.index(b"PK\1\2")
    entry = inner[inner.index(b"PK\1\2") : inner.index(b"PK\5\6")]
    entry[42:46] = struct.pack("<I", 31)
    table = outer[names : outer.index(b"PK\5\6")] + entry
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(table), names, 0)
    refuse(opened, outer[:names] + table + end, "overlap")


def test_bombs_are_refused_before_they_are_unpacked(opened):
    packed = zipped({f"{number}": b"\0" * (1 << 23) for number in range(16)}, zipfile.ZIP_DEFLATED)
    refuse(opened, packed, "expand to more than 100 times")
    lies = zipped({"a": b"\0" * (1 << 20)}, zipfile.ZIP_DEFLATED)
    central = lies.index(b"PK\1\2")
    lies[22:26] = lies[central + 24 : central + 28] = struct.pack("<I", 1000)
    archive = opened(lies)
    with pytest.raises(PortError, match="does not end where the table of contents states"):
        archive.read("a")


def test_a_stated_size_must_come_out(opened):
    short = zipped({"a": b"\0" * 1000}, zipfile.ZIP_DEFLATED)
    central = short.index(b"PK\1\2")
    short[22:26] = short[central + 24 : central + 28] = struct.pack("<I", 1001)
    with pytest.raises(PortError, match="does not have the checksum"):
        opened(short).read("a")
    wrong = zipped({"a": random.Random(0).randbytes(50)}, zipfile.ZIP_STORED)
    central = wrong.index(b"PK\1\2")
    wrong[8:10] = wrong[central + 10 : central + 12] = struct.pack("<H", 8)
    with pytest.raises(PortError, match="damaged"):
        opened(wrong).read("a")
    with pytest.raises(PortError, match="damaged"):
        opened(wrong).start("a", 10)


def test_endless_tables_are_refused(opened, monkeypatch):
    monkeypatch.setattr(zip_archive, "_MAX_MEMBERS", 2)
    refuse(opened, zipped(), "a zip archive of 3 members")
    data = zipped({"a": b"1"})
    data[-22 + 10 : -22 + 12] = struct.pack("<H", 60_000)
    refuse(opened, data, "a zip archive of 60000 members")


def test_every_truncation_is_refused(opened):
    data = zipped({"a": b"1" * 50, "b": zlib.compress(b"2" * 50)})
    for size in range(0, len(data), 7):
        with pytest.raises(PortError, match="damaged"):
            opened(data[:size])
