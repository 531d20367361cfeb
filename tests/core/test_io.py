import errno
import os

import pytest

import frostline as fl
from frostline.core import io


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    io.write_json(path, {"a": 1})

    def torn():
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        io.write_atomic(path, torn())
    assert io.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert not io.publish_new(path, [b"x"])
    assert io.publish_new(tmp_path / "b", [b"x"])


def test_disks_without_hard_links_publish_too(tmp_path, monkeypatch):
    def refuse(*_):  # such a disk cannot be mounted here
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert io.publish_new(tmp_path / "a", [b"first"])
    assert not io.publish_new(tmp_path / "a", [b"second"])
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_leftovers_of_the_dead_are_swept(tmp_path):
    (tmp_path / "x.999999999-abc.part").write_text("")
    (tmp_path / "kept.json").write_text("")
    assert io.sweep(tmp_path) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "nothing", "[" * 100_000])
def test_json_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(fl.CacheError, match="not the JSON that Frostline wrote"):
        io.read_json(tmp_path / "a.json")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(fl.CacheError, match="Cannot read missing.json"):
        io.read_json(tmp_path / "missing.json")
    (tmp_path / "large.json").write_text("1" * 100)
    with pytest.raises(fl.CacheError, match="Cannot read large.json"):
        io.read_json(tmp_path / "large.json", max_bytes=10)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EACCES, "writable"), (errno.EROFS, "read-only"),
     (errno.ENOTDIR, "parents are folders"), (errno.EEXIST, "not a file"), (errno.EIO, "check the disk"),
     (None, "check the disk")],
)  # fmt: skip
def test_the_remedy_follows_what_the_disk_said(tmp_path, number, words):
    with pytest.raises(fl.CacheError) as error, io.disk_errors("write", tmp_path / "a"):
        raise OSError(number, "no") if number else OSError("no")
    assert words in error.value.do
    assert error.value.what == "Cannot write a."
