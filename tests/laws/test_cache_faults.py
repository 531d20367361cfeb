"""Laws of the cache under faults: whatever fails or dies, the next fill has every row, right and once.

`make soak` asks the same with every errno, thousands of kills and many builders.
"""

from __future__ import annotations

import os
import signal

import pytest

from exams.reliability import building
from exams.reliability.__main__ import ERRNOS, builders, child, killed_fill, one_failing_call, wait
from exams.reliability.building import Calls, fill, violations, wrong_rows
from frostline.caching import writing
from frostline.caching.manifests import read_newest
from frostline.core import io

NUMBERS = range(4)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(writing, "_SHARD_SECONDS", 0.0)


def num_calls(root, before=0):
    """System calls of a build."""
    if before:
        fill(root, range(before))
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls(0, lambda _: None)
        patch.setattr(io, "call", calls)
        assert wrong_rows(fill(root, NUMBERS), NUMBERS) == 0
    return calls.count


@pytest.mark.parametrize("before", [0, 2])
def test_any_call_may_fail(tmp_path, before):
    count = num_calls(tmp_path / "whole", before)
    assert count > 80
    bad = {}
    for at in range(1, count + 1, 3 if before else 1):
        code = ERRNOS[at % len(ERRNOS)]
        found, is_beyond = one_failing_call(tmp_path / str(at), before, at, code, NUMBERS)
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


def test_a_builder_may_be_killed_at_any_call(tmp_path):
    for at in range(1, num_calls(tmp_path / "whole") + 1, 3):
        root = tmp_path / str(at)
        assert os.WTERMSIG(wait(child(lambda at=at, root=root: killed_fill(root, NUMBERS, at)))) == signal.SIGKILL
        assert violations(root, NUMBERS) == []


def test_builders_at_once_fail_nothing_lose_nothing_and_store_nothing_twice():
    assert builders(processes=8, rounds=2, seconds=60.0) == 0
