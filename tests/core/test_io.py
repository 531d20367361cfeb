import errno
import os
from pathlib import Path

import pytest

import frostline as fl
from frostline.core import io, new_files


def test_links_pipes_and_folders_are_no_files_of_ours(tmp_path):
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(io.Damaged, match="not a regular file"):
            io.read_json(tmp_path / name)


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


def test_folders_are_made_with_their_parents_for_the_owner_alone(tmp_path):
    io.make_folder(tmp_path / "a" / "b")
    io.make_folder(tmp_path / "a" / "b")
    assert [(tmp_path / part).stat().st_mode & 0o777 for part in ("a", "a/b")] == [0o700, 0o700]
    (tmp_path / "file").touch()
    for path in ("file", "file/inner"):
        with pytest.raises(fl.CacheError, match="Cannot create the folder"):
            io.make_folder(tmp_path / path)


def test_large_files_are_written_and_read_whole(tmp_path):
    data = os.urandom(3 * 2**20 + 5)
    new_files.write_atomic(tmp_path / "a", [memoryview(data)[:7], data[7:]])
    assert io.read_bytes(tmp_path / "a", max_bytes=len(data)) == data
    with pytest.raises(OSError, match="larger than"):
        io.read_bytes(tmp_path / "a", max_bytes=len(data) - 1)


def test_names_and_removals_of_what_is_not_there(tmp_path):
    assert io.names_in(tmp_path / "no") == []
    assert io.status(tmp_path / "no") is None
    assert not io.remove(tmp_path / "no")
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert io.names_in(tmp_path) == ["a", "b"]
    assert io.remove(tmp_path / "a")
    assert io.names_in(tmp_path) == ["b"]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" / "deep")
    for path in (link, link / "inside"):
        with pytest.raises(fl.CacheError, match="leads nowhere") as error:
            io.make_folder(path)
        assert error.value.where == str(link)
        assert "remove the link" in error.value.do


def test_a_read_only_disk_is_told_by_what_was_wanted():
    texts = []
    for verb in ("write", "delete files in"):
        with pytest.raises(fl.CacheError) as error, io.disk_errors(verb, Path("x")):
            raise OSError(errno.EROFS, "Read-only file system")
        texts.append(error.value.do)
    assert "use a folder" in texts[0]
    assert "use a folder" not in texts[1]
    assert "nothing was deleted" in texts[1]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOENT, "no other process deletes"), (errno.EMFILE, "ulimit -n"),
                                               (errno.ENOMEM, "memory")])  # fmt: skip
def test_what_runs_short_is_told(tmp_path, number, words):
    with pytest.raises(fl.CacheError) as error, io.disk_errors("write", tmp_path / "a"):
        raise OSError(number, "no")
    assert words in error.value.do
