import os

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.weight_file import WeightFile, digest_of_file, neighbour


def test_bytes_are_read_by_offset_and_as_a_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    with WeightFile(path) as file:
        assert file.size == 10
        assert file.read_at(2, 3) == b"234"
        assert file.start(100) == b"0123456789"
        file.seek(-2, os.SEEK_END)
        assert file.tell() == 8
        assert file.read(5) == b"89"
        assert file.digest() == "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"
        with pytest.raises(PortError, match="damaged"):
            file.read_at(8, 3)
        with pytest.raises(PortError, match="damaged"):
            file.read_at(-1, 3)


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "pipe", "a pipe"), ("/dev/zero", "a device")):
        with pytest.raises(PortError, match="Only regular files") as caught:
            WeightFile(type(tmp_path)(path))
        assert caught.value.received == kind
    with pytest.raises(PortError, match="Cannot open"):
        WeightFile(tmp_path / "missing")


def test_a_file_that_is_written_to_is_noticed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"0123456789")
    with WeightFile(path) as file:
        file.check_unchanged()
        path.write_bytes(b"01234")
        with pytest.raises(PortError, match="changed while it was read"):
            file.check_unchanged()
        with pytest.raises(PortError, match="became shorter"):
            file.read_at(4, 4)


def test_a_file_of_one_network_has_no_entries(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"0")
    with WeightFile(tmp_path / "a.bin") as file:
        file.check_no_key(None)
        with pytest.raises(PortError, match="A file of this format contains a single network"):
            file.check_no_key("ema")


def test_neighbours_lie_in_the_same_folder(tmp_path):
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "part").write_bytes(b"abc")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    os.link(tmp_path / "elsewhere" / "secret", tmp_path / "hard")
    with WeightFile(tmp_path / "index.json") as file:
        with neighbour(file, "part") as other:
            assert other.read() == b"abc"
        for name in ("../elsewhere/secret", "elsewhere/secret", "/etc/passwd", "..", "", "link", "hard"):
            with pytest.raises(PortError, match="outside of its folder"), neighbour(file, name):
                pass


def test_a_neighbour_that_is_opened_again_is_the_same(tmp_path):
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "part").write_bytes(b"abc")
    with WeightFile(tmp_path / "index.json") as file:
        with neighbour(file, "part") as first:
            pass
        with neighbour(file, "part", first) as again:
            assert again.read() == b"abc"
        (tmp_path / "part").unlink()
        (tmp_path / "part").write_bytes(b"abcd")
        with pytest.raises(PortError, match="changed while it was read") as caught, neighbour(file, "part", first):
            pass
        assert caught.value.received == "3 bytes at first, 4 now"


def test_other_files_are_noted_and_stay_the_same(tmp_path):
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "part").write_bytes(b"0123456789")
    with WeightFile(tmp_path / "index.json") as file:
        with neighbour(file, "part"):
            pass
        file.check_parts()
        assert file.parts.keys() == {"part"}
        assert file.digest_of_part("part") == digest_of_file(tmp_path / "part")
        (tmp_path / "part").write_bytes(b"012345678")
        with pytest.raises(PortError, match="changed while it was read"), neighbour(file, "part"):
            pass
        for again in (file.check_parts, lambda: file.digest_of_part("part")):
            with pytest.raises(PortError, match="changed while it was read"):
                again()


def test_a_cache_of_downloads_holds_links_into_one_folder(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "a").write_text("{}")
    (tmp_path / "blobs" / "b").write_bytes(b"abc")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "index.json").symlink_to("../blobs/a")
    (tmp_path / "snapshot" / "part").symlink_to("../blobs/b")
    with WeightFile(tmp_path / "snapshot" / "index.json") as file, neighbour(file, "part") as other:
        assert other.read() == b"abc"


@pytest.mark.parametrize(
    ("head", "zeros", "is_refused"),
    [(b"\1" * 4096, 1 << 16, True), (b"\1" * 4093 + bytes(3), 1 << 16, True), (b"\1" * 4000, 1 << 16, False),
     (b"\1" * 4096, (1 << 16) - 1, False), (b"\1" * (1 << 20), 1 << 17, False), (b"\1" * 4096, 5 << 20, True),
     (b"", 1 << 20, True)],
)  # fmt: skip
def test_a_file_whose_end_was_never_written_is_refused(tmp_path, head, zeros, is_refused):
    (tmp_path / "a").write_bytes(head + bytes(zeros))
    with WeightFile(tmp_path / "a") as file:
        if is_refused:
            with pytest.raises(PortError, match="still being written"):
                file.check_written()
        else:
            file.check_written()


def test_bytes_are_read_into_memory_of_their_own(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(200)))
    with WeightFile(path) as file:
        one, other = file.array_at(10, 50), file.array_at(10, 50)
        assert one.tobytes() == file.read_at(10, 50)
        one[:] = 0
        assert other.tobytes() == bytes(range(10, 60))
        with pytest.raises(PortError, match="bytes 190 to 201 are referred to, but the file has 200"):
            file.array_at(190, 11)
        path.write_bytes(b"short")
        with pytest.raises(PortError, match="the file became shorter than 200 bytes"):
            file.array_at(0, 200)


def test_where_the_system_does_not_read_into_memory_bytes_are_copied(tmp_path, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(bytes(range(200)))
    monkeypatch.delattr(os, "preadv", raising=False)
    with WeightFile(path) as file:
        assert file.array_at(3, 100).tobytes() == bytes(range(3, 103))
