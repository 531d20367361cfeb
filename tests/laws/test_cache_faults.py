"""Laws of the cache under faults: whatever fails or dies, the next fill has every row, right and once.

`make soak` asks the same with every errno, thousands of kills and many builders.
"""

from __future__ import annotations

import os
import random
import signal
import sys

import pytest

from exams.reliability import building
from exams.reliability.__main__ import ERRNOS, builders, killed_fill, one_failing_call
from exams.reliability.building import Calls, child, fill, violations, wait, wrong_rows
from frostline.caching.store.manifest import read_newest
from frostline.core import io

pytestmark = pytest.mark.usefixtures("small_shards")
NUMBERS = range(4)
CHANGING = {"mkdir", "write", "link", "replace", "unlink", "rename", "rmdir", "flock", "pwrite", "ftruncate"}


class Places(Calls):
    """Notes of each call what is asked and through which lines of the library, not only how often."""

    def __init__(self):
        super().__init__(0, lambda _: None)
        self.asked = []

    def __call__(self, function, *arguments, **options):
        lines, frame = [], sys._getframe(1)
        while frame is not None:
            if "/frostline/" in frame.f_code.co_filename:
                lines.append((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        self.asked.append((function.__name__, tuple(lines)))
        return super().__call__(function, *arguments, **options)


def calls_of_a_build(root, before=0):
    """Of each call to the system: what is asked, through which lines."""
    if before:
        fill(root, range(before))
    with pytest.MonkeyPatch.context() as patch:
        calls = Places()
        patch.setattr(io, "call", calls)
        assert wrong_rows(fill(root, NUMBERS), NUMBERS) == 0
    return calls.asked


def ways(root, before=0):
    """The ways in which a build comes to a call of the system, each with the number of its last call."""
    return {way: at for at, way in enumerate(calls_of_a_build(root, before), start=1)}


@pytest.mark.parametrize("before", [0, 2])
def test_any_call_may_fail(folder, before):
    chosen = ways(folder / "whole", before)  # each call of all that go one way, and every errno: `make soak`
    assert len(chosen) > 80
    if before:  # what an empty cache asks as well is failed there
        known = ways(folder / "empty")
        chosen = {way: at for number, (way, at) in enumerate(chosen.items()) if way not in known or number % 3 == 0}
    bad = {}
    for number, at in enumerate(chosen.values()):
        code = ERRNOS[number % len(ERRNOS)]
        found, is_beyond = one_failing_call(folder / str(at), before, at, code, NUMBERS)
        if found:
            bad[at, os.strerror(code)] = found
        assert not is_beyond
    assert bad == {}


def test_that_test_can_fail(tmp_path, monkeypatch):
    data = fill(tmp_path, NUMBERS)
    assert wrong_rows(data, range(1, 5)) == 4
    (folder,) = tmp_path.glob("*")
    (name,) = read_newest(folder / "manifests")[1].shards
    (folder / "shards" / name).unlink()
    (folder / "manifests" / f"0.{'0' * 32}.part").touch()
    monkeypatch.setattr(building, "fill", lambda *_: data)  # one that sees and mends nothing
    monkeypatch.setattr(building, "num_double_rows", lambda _: 3)
    found = " ".join(violations(tmp_path, range(1, 5)))
    for text in ("4 wrong rows", "verify: ", "computed rows again", "1 temporary files", "3 rows are stored twice"):
        assert text in found


def test_a_builder_may_be_killed_at_any_call_that_changes_something(folder):
    asked = [what for what, _ in calls_of_a_build(folder / "whole")]
    assert set(asked) <= {
        *CHANGING,
        "open",
        "close",
        "fsync",
        "fstat",
        "utime",
        "stat",
        "lstat",
        "listdir",
        "read",
        "readv",
        "mmap",
        "dup",
    }
    changing = [at for at, what in enumerate(asked, start=1) if what in CHANGING]
    assert len(changing) > 30
    for at in changing:
        root = folder / str(at)
        assert os.WTERMSIG(wait(child(lambda at=at, root=root: killed_fill(root, NUMBERS, at)))) == signal.SIGKILL
        assert violations(root, NUMBERS) == []


def test_builders_at_once_fail_nothing_lose_nothing_and_store_nothing_twice():
    assert builders(processes=8, rounds=1, seconds=60.0) == 0


def test_builders_at_once_with_some_killed(capfd):
    assert builders(processes=8, rounds=1, seconds=60.0, chance=random.Random(1)) == 0
    assert " 0 killed" not in capfd.readouterr().out
