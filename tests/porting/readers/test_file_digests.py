import hashlib
import threading

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.file_digests import digests_in_background
from frostline.porting.readers.weight_file import WeightFile, neighbour


def sha256(text):
    return hashlib.sha256(text).hexdigest()


def opened(folder, *names):
    (folder / "index").write_bytes(b"0123456789")
    for name in names:
        (folder / name).write_bytes(name.encode())
    return WeightFile(folder / "index")


def read(file, name):
    with neighbour(file, name):
        pass


def test_files_that_are_read_before_and_meanwhile_have_their_digests_in_the_order_of_their_names(tmp_path):
    with opened(tmp_path, "a", "b", "c", "d") as file:
        read(file, "c")
        read(file, "b")
        with digests_in_background(file) as digests:
            read(file, "d")
            read(file, "a")
            whole, parts = digests()
        assert whole == sha256(b"0123456789")
        assert list(parts.items()) == [(name, sha256(name.encode())) for name in "abcd"]


def test_a_part_that_changes_after_its_digest_was_taken_is_noticed(tmp_path):
    with opened(tmp_path, "a") as file:
        read(file, "a")
        with digests_in_background(file) as digests:
            digests()
            (tmp_path / "a").write_bytes(b"longer")
            with pytest.raises(PortError, match="changed while it was read"):
                digests()


def test_an_error_of_the_thread_is_raised_where_its_digest_is_asked_for(tmp_path, monkeypatch):
    with opened(tmp_path) as file:
        monkeypatch.setattr(file, "read_at", lambda *_: (_ for _ in ()).throw(file.damaged("became shorter")))
        with digests_in_background(file) as digests, pytest.raises(PortError, match="damaged, or still being written"):
            digests()


def test_after_an_error_nothing_more_is_read_and_no_thread_is_left(tmp_path, monkeypatch):
    num_threads, offsets, is_first, may_go_on = threading.active_count(), [], threading.Event(), threading.Event()

    class Over(threading.Event):
        def set(self):
            super().set()
            may_go_on.set()

    monkeypatch.setattr("frostline.porting.readers.weight_file._CHUNK_BYTES", 1)
    with opened(tmp_path, "a") as file:
        read(file, "a")

        def read_at(offset, count):
            offsets.append(offset)
            is_first.set()
            may_go_on.wait(60)
            return b"0"

        monkeypatch.setattr(file, "read_at", read_at)
        monkeypatch.setattr("frostline.porting.readers.file_digests.Event", Over)
        with pytest.raises(KeyError), digests_in_background(file):
            is_first.wait(60)
            raise KeyError
    assert offsets == [0]
    assert threading.active_count() == num_threads
