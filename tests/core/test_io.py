import errno
import os
import re
from contextlib import ExitStack
from pathlib import Path

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


def test_leftovers_are_swept_if_nobody_holds_them_and_they_are_ours(tmp_path):
    left = tmp_path / f"x.json.{'0' * 32}.part"
    left.write_text("")
    foreign = ["kept.json", "thesis.part", "x.json.4711-abcdef01.part", f"y.txt.{'0' * 32}.part"]
    for name in foreign:
        (tmp_path / name).write_text("")
    with left.open("rb") as writer:
        assert io.lock(writer.fileno(), is_exclusive=True)
        assert io.sweep(tmp_path, re.compile(r".+\.json")) == 0
    assert io.sweep(tmp_path, re.compile(r".+\.json")) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(foreign)


def test_a_file_is_locked_while_it_is_written(tmp_path):
    def chunks():
        yield b"half"
        assert io.sweep(tmp_path) == 0
        yield b"and half"

    io.write_atomic(tmp_path / "a", chunks())
    assert (tmp_path / "a").read_bytes() == b"halfand half"
    assert io.sweep(tmp_path) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_temporary_that_is_swept_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    real, swept = io.lock, []

    def late(descriptor, **options):
        if not swept:
            monkeypatch.setattr(io, "lock", real)
            swept.append(io.sweep(tmp_path))
        return real(descriptor, **options)

    monkeypatch.setattr(io, "lock", late)
    io.write_atomic(tmp_path / "a", [b"x"])
    assert (swept, (tmp_path / "a").read_bytes()) == ([1], b"x")


def without_locks(function, *arguments, **options):  # such a disk cannot be mounted here
    if function.__name__ == "flock":
        raise OSError(errno.ENOLCK, "No locks available")
    return function(*arguments, **options)


def test_on_a_disk_without_locks_files_are_written_and_nothing_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "call", without_locks)
    io.write_atomic(tmp_path / "a", [b"x"])
    (tmp_path / f"b.{'0' * 32}.part").write_text("")
    assert io.sweep(tmp_path) == 0
    with io.held(tmp_path / "lock", wait_s=0) as is_free:
        assert is_free


def test_a_lock_that_is_held_is_waited_for_and_given_up(tmp_path):
    with io.held(tmp_path / "lock", wait_s=0) as is_free:
        assert is_free
        with io.held(tmp_path / "lock", wait_s=0) as is_free_too:
            assert not is_free_too
    with io.held(tmp_path / "lock", wait_s=0) as is_free:
        assert is_free
    with io.held(tmp_path / "no" / "lock", wait_s=0) as is_free:
        assert is_free
    with io.held(tmp_path, wait_s=0, is_folder=True), io.held(tmp_path, wait_s=0, is_folder=True) as is_free:
        assert not is_free
    with io.held(tmp_path / "no", wait_s=0, is_folder=True) as is_free:
        assert is_free
    assert [own.name for own in tmp_path.iterdir()] == ["lock"]


def test_links_pipes_and_folders_are_no_files_of_ours(tmp_path):
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to("target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        with pytest.raises(io.Damaged, match="not a regular file"):
            io.read_json(tmp_path / name)


def test_an_error_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    for number in range(1, 20):
        calls = []

        def failing(function, *arguments, at=number, seen=calls, **options):
            seen.append(function)
            if len(seen) == at:
                raise OSError(errno.EIO, "Input/output error")
            return function(*arguments, **options)

        monkeypatch.setattr(io, "call", failing)
        try:
            io.write_atomic(tmp_path / "a", [b"new"])
        except fl.CacheError as error:
            assert "Input/output error" in error.received
        assert (tmp_path / "a").read_bytes() in (b"old", b"new")
        monkeypatch.undo()
        assert io.sweep(tmp_path) <= 1  # the call that failed was the one that tidies up
        if len(calls) < number:
            break
    assert number > 8


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


@pytest.mark.parametrize("name", ["fstat", "flock"])
def test_a_temporary_file_that_cannot_be_asked_about_is_taken_away(tmp_path, monkeypatch, name):
    def failing(function, *arguments, **options):
        if function.__name__ == name:
            raise OSError(errno.EIO, "Input/output error") if name == "fstat" else KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", failing)
    with pytest.raises(fl.CacheError if name == "fstat" else KeyboardInterrupt):
        io.write_atomic(tmp_path / "a", [b"new"])
    assert not list(tmp_path.iterdir())


def test_new_files_that_always_disappear_are_told(tmp_path, monkeypatch):
    real = os.open

    def swept(function, path, *arguments, **options):
        found = function(path, *arguments, **options)
        if function is real and str(path).endswith(".part"):
            os.unlink(path)
        return found

    monkeypatch.setattr(io, "call", swept)
    with pytest.raises(fl.CacheError, match="Cannot write a") as error:
        io.write_atomic(tmp_path / "a", [b"new"])
    assert "new files disappear at once" in error.value.received


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
    io.write_atomic(tmp_path / "a", [memoryview(data)[:7], data[7:]])
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


@pytest.mark.parametrize("name", ["x.json.{}.part", "a.b.json.{}.part"])
def test_the_name_of_a_temporary_file(name):
    names = re.compile(r".+\.json")
    assert io.is_temporary(name.format("0123456789abcdef" * 2), names)
    for odd in ("0" * 31, "0" * 33, "g" * 32, ""):
        assert not io.is_temporary(name.format(odd), names)
    assert not io.is_temporary("x.json", names)


def test_numbers_that_json_has_not_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        io.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


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


def test_a_lock_that_is_let_go_meanwhile_is_had(tmp_path, monkeypatch):
    holder = io.held(tmp_path / "lock", wait_s=0)
    assert holder.__enter__()
    waits = []

    def wait(seconds):  # the other process ends while this one waits
        waits.append(seconds)
        if len(waits) == 3:
            holder.__exit__(None, None, None)

    monkeypatch.setattr(io.time, "sleep", wait)
    with io.held(tmp_path / "lock", wait_s=60) as is_free:
        assert is_free
    assert len(waits) == 3


def test_a_lock_is_given_up_when_its_time_is_over(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(io.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(io.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with io.held(tmp_path / "lock", wait_s=0), io.held(tmp_path / "lock", wait_s=1.0) as is_free:
        assert not is_free
    assert 1.0 <= now[0] < 1.1


def test_a_file_may_be_as_large_as_allowed_and_a_new_name_is_ours():
    assert not io.is_temporary(".part", re.compile(".*"))


@pytest.mark.parametrize(("number", "words"), [(errno.ENOENT, "no other process deletes"), (errno.EMFILE, "ulimit -n"),
                                               (errno.ENOMEM, "memory")])  # fmt: skip
def test_what_runs_short_is_told(tmp_path, number, words):
    with pytest.raises(fl.CacheError) as error, io.disk_errors("write", tmp_path / "a"):
        raise OSError(number, "no")
    assert words in error.value.do


def test_what_was_written_stays_locked_for_its_builder(tmp_path):
    with ExitStack() as hold:
        io.write_atomic(tmp_path / "a", [b"x"], hold)
        assert not io.remove_unlocked(tmp_path / "a")
    assert io.remove_unlocked(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_others_may_read_what_its_builder_still_holds(tmp_path):
    with ExitStack() as hold:
        io.write_atomic(tmp_path / "a", [b"x"], hold)
        with (tmp_path / "a").open("rb") as reader:
            assert io.lock(reader.fileno(), is_exclusive=False)
        with (tmp_path / "a").open("rb") as collector:
            assert not io.lock(collector.fileno(), is_exclusive=True)


def test_a_file_that_only_looks_like_a_temporary_one_is_left_alone(tmp_path):
    finished = tmp_path / f"x.json.{'0' * 32}"
    finished.write_text("")
    assert not io.is_temporary(finished.name, re.compile(r".+\.json"))
    assert io.sweep(tmp_path) == 0
    assert finished.exists()


def test_what_stands_at_a_path_is_not_replaced(tmp_path):
    io.check_new(tmp_path / "new", "--out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for used in (tmp_path, tmp_path / "link"):
        with pytest.raises(fl.DataError, match="exists already, and is not replaced") as error:
            io.check_new(used, "--out", others="or use --overwrite")
    assert (error.value.where, error.value.do) == ("--out", "pass another path; or use --overwrite.")
    (tmp_path / "file").touch()
    with pytest.raises(fl.CacheError, match="Cannot look at below"):
        io.check_new(tmp_path / "file" / "below", "--out")
