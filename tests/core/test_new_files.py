import errno
import os
import re
from contextlib import ExitStack

import pytest

import frostline as fl
from frostline.core import io, locks, new_files


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    new_files.write_json(path, {"a": 1})

    def torn():
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        new_files.write_atomic(path, torn())
    assert io.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert not new_files.publish_new(path, [b"x"])
    assert new_files.publish_new(tmp_path / "b", [b"x"])


def test_disks_without_hard_links_publish_too(tmp_path, monkeypatch):
    def refuse(*_):  # such a disk cannot be mounted here
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert new_files.publish_new(tmp_path / "a", [b"first"])
    assert not new_files.publish_new(tmp_path / "a", [b"second"])
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_leftovers_are_swept_if_nobody_holds_them_and_they_are_ours(tmp_path):
    left = tmp_path / f"x.json.{'0' * 32}.part"
    left.write_text("")
    foreign = ["kept.json", "thesis.part", "x.json.4711-abcdef01.part", f"y.txt.{'0' * 32}.part"]
    for name in foreign:
        (tmp_path / name).write_text("")
    with left.open("rb") as writer:
        assert locks.lock(writer.fileno(), is_exclusive=True)
        assert new_files.sweep(tmp_path, re.compile(r".+\.json")) == 0
    assert new_files.sweep(tmp_path, re.compile(r".+\.json")) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(foreign)


def test_a_file_is_locked_while_it_is_written(tmp_path):
    def chunks():
        yield b"half"
        assert new_files.sweep(tmp_path) == 0
        yield b"and half"

    new_files.write_atomic(tmp_path / "a", chunks())
    assert (tmp_path / "a").read_bytes() == b"halfand half"
    assert new_files.sweep(tmp_path) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_temporary_that_is_swept_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    real, swept = locks.lock, []

    def late(descriptor, **options):
        if not swept:
            monkeypatch.setattr(new_files, "lock", real)
            swept.append(new_files.sweep(tmp_path))
        return real(descriptor, **options)

    monkeypatch.setattr(new_files, "lock", late)
    new_files.write_atomic(tmp_path / "a", [b"x"])
    assert (swept, (tmp_path / "a").read_bytes()) == ([1], b"x")


def without_locks(function, *arguments, **options):  # such a disk cannot be mounted here
    if function.__name__ == "flock":
        raise OSError(errno.ENOLCK, "No locks available")
    return function(*arguments, **options)


def test_on_a_disk_without_locks_files_are_written_and_nothing_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(io, "call", without_locks)
    new_files.write_atomic(tmp_path / "a", [b"x"])
    (tmp_path / f"b.{'0' * 32}.part").write_text("")
    assert new_files.sweep(tmp_path) == 0
    with locks.held(tmp_path / "lock", wait_s=0) as is_free:
        assert is_free


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
            new_files.write_atomic(tmp_path / "a", [b"new"])
        except fl.CacheError as error:
            assert "Input/output error" in error.received
        assert (tmp_path / "a").read_bytes() in (b"old", b"new")
        monkeypatch.undo()
        assert new_files.sweep(tmp_path) <= 1  # the call that failed was the one that tidies up
        if len(calls) < number:
            break
    assert number > 8


@pytest.mark.parametrize("name", ["fstat", "flock"])
def test_a_temporary_file_that_cannot_be_asked_about_is_taken_away(tmp_path, monkeypatch, name):
    def failing(function, *arguments, **options):
        if function.__name__ == name:
            raise OSError(errno.EIO, "Input/output error") if name == "fstat" else KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(io, "call", failing)
    with pytest.raises(fl.CacheError if name == "fstat" else KeyboardInterrupt):
        new_files.write_atomic(tmp_path / "a", [b"new"])
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
        new_files.write_atomic(tmp_path / "a", [b"new"])
    assert "new files disappear at once" in error.value.received


@pytest.mark.parametrize("name", ["x.json.{}.part", "a.b.json.{}.part"])
def test_the_name_of_a_temporary_file(name):
    names = re.compile(r".+\.json")
    assert new_files.is_temporary(name.format("0123456789abcdef" * 2), names)
    for odd in ("0" * 31, "0" * 33, "g" * 32, ""):
        assert not new_files.is_temporary(name.format(odd), names)
    assert not new_files.is_temporary("x.json", names)


def test_numbers_that_json_has_not_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        new_files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_file_may_be_as_large_as_allowed_and_a_new_name_is_ours():
    assert not new_files.is_temporary(".part", re.compile(".*"))


def test_what_was_written_stays_locked_for_its_builder(tmp_path):
    with ExitStack() as hold:
        new_files.write_atomic(tmp_path / "a", [b"x"], hold)
        assert not locks.remove_unlocked(tmp_path / "a")
    assert locks.remove_unlocked(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_others_may_read_what_its_builder_still_holds(tmp_path):
    with ExitStack() as hold:
        new_files.write_atomic(tmp_path / "a", [b"x"], hold)
        with (tmp_path / "a").open("rb") as reader:
            assert locks.lock(reader.fileno(), is_exclusive=False)
        with (tmp_path / "a").open("rb") as collector:
            assert not locks.lock(collector.fileno(), is_exclusive=True)


def test_a_file_that_only_looks_like_a_temporary_one_is_left_alone(tmp_path):
    finished = tmp_path / f"x.json.{'0' * 32}"
    finished.write_text("")
    assert not new_files.is_temporary(finished.name, re.compile(r".+\.json"))
    assert new_files.sweep(tmp_path) == 0
    assert finished.exists()


def test_what_stands_at_a_path_is_not_replaced(tmp_path):
    new_files.check_new(tmp_path / "new", "--out")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for used in (tmp_path, tmp_path / "link"):
        with pytest.raises(fl.DataError, match="exists already, and is not replaced") as error:
            new_files.check_new(used, "--out", others="or use --overwrite")
    assert (error.value.where, error.value.do) == ("--out", "pass another path; or use --overwrite.")
    (tmp_path / "file").touch()
    with pytest.raises(fl.CacheError, match="Cannot look at below"):
        new_files.check_new(tmp_path / "file" / "below", "--out")
