"""Faults of the cache that the sweeps of `test_cache_faults.py` do not make; `docs/reliability.md` lists all."""

from __future__ import annotations

import faulthandler
import os
import random
import signal
import sys
from functools import partial

import pytest
import torch

import frostline as fl
from exams.reliability.__main__ import killed_fill
from exams.reliability.building import Calls, child, fill, num_double_rows, violations, wait, wrong_rows
from exams.reliability.power import Disk, after
from frostline.core import io
from helpers_caching import Part, dataset, shards
from helpers_caching import fill as fill_part

pytestmark = pytest.mark.usefixtures("small_shards")
NUMBERS = range(4)


def num_calls(root):
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls(0, lambda _: None)
        patch.setattr(io, "call", calls)
        fill(root, NUMBERS)
    return calls.count


def test_a_builder_may_be_killed_while_it_mends_what_a_killed_one_left(folder):
    chance, count = random.Random(5), num_calls(folder / "whole")
    for number in range(12):
        root = folder / str(number)
        for _ in range(3):
            wait(child(partial(killed_fill, root, NUMBERS, chance.randint(1, count))))
        assert violations(root, NUMBERS) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_fill_may_be_interrupted_at_any_call(folder, monkeypatch, error):
    count = num_calls(folder / "whole")
    real = io.call

    def interrupt(_):
        raise error

    for at in range(1, count, 7):
        root = folder / str(at)
        monkeypatch.setattr(io, "call", Calls(at, interrupt))
        with pytest.raises(error):
            fill(root, NUMBERS)
        monkeypatch.setattr(io, "call", real)
        assert violations(root, NUMBERS) == []


def test_a_storm_of_signals_changes_nothing(folder):
    count = 0

    def note(*_):
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGALRM, note)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        data = fill(folder / "cache", range(12))
        assert wrong_rows(data, range(12)) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count > 10
    assert violations(folder / "cache", range(12)) == []


def test_writes_and_reads_of_a_few_bytes_are_continued(folder, monkeypatch):
    real = io.call

    def short(function, *arguments, **options):
        if function is os.write:
            return os.write(arguments[0], bytes(arguments[1][:999]))
        if function is os.read:
            return os.read(arguments[0], 7)
        if function is os.readv:
            return os.readv(arguments[0], [arguments[1][0][:501]])
        return real(function, *arguments, **options)

    monkeypatch.setattr(io, "call", short)
    assert violations(folder / "cache", NUMBERS) == []


def test_what_was_published_outlives_a_power_failure_at_any_call(folder, monkeypatch):
    root = folder / "cache"
    disk = Disk(root)
    monkeypatch.setattr(io, "call", disk)
    fill(root, NUMBERS)
    monkeypatch.setattr(io, "call", disk.real)
    chance = random.Random(3)
    assert len(disk.moments) > 30
    for number, moment in enumerate(disk.moments):
        other = folder / f"after {number}"
        other.mkdir()
        after(moment, root, other, chance)
        assert violations(other, NUMBERS) == [], number
    last = folder / "last"
    last.mkdir()
    after(disk.moments[-1], root, last, chance)
    assert fill(last, NUMBERS).figures.computed == 0  # a fill that has returned is durable


def test_that_law_can_fail(folder, monkeypatch):
    """Without fsync a fill that has returned is lost."""
    root = folder / "cache"
    disk = Disk(root)
    monkeypatch.setattr(disk, "_sync", lambda _: None)
    monkeypatch.setattr(io, "call", disk)
    fill(root, NUMBERS)
    monkeypatch.setattr(io, "call", disk.real)
    (folder / "last").mkdir()
    after(disk.moments[-1], root, folder / "last", random.Random(3))
    assert fill(folder / "last", NUMBERS).figures.computed == len(NUMBERS)


def truncated_while_mapped(root):
    """A child that maps rows of which the file is cut then."""
    faulthandler.disable()  # its pages of text are not needed
    data = fill_part(root, Part(), dataset(1000))
    passing = iter(data.loader(50))
    next(passing)
    os.truncate(shards(root)[-1], 100)
    list(passing)
    return 0


def test_a_mapped_file_that_is_cut_ends_the_process_that_maps_it_and_no_other(folder):
    status = wait(child(partial(truncated_while_mapped, folder / "cache")))
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGBUS
    data = fill_part(folder / "cache", Part(), dataset(1000))  # the cut file is set aside
    assert torch.equal(torch.cat([own[0] for own, _ in data.loader(50)]), dataset(1000).tensors[0] * 2)


def pickles_nothing(root, events):
    fill(root, NUMBERS)
    fill(root, range(6))
    for path in [*root.rglob("*.safetensors"), *root.rglob("*.json")]:
        path.write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")  # a pickle that calls a program
    fill(root, NUMBERS)
    return len(events)


def test_nothing_in_a_cache_is_unpickled_or_run(folder):
    def audited():
        events = []
        names = {"pickle.find_class", "os.system", "subprocess.Popen"}
        sys.addaudithook(lambda event, _: events.append(event) if event in names else None)
        return pickles_nothing(folder / "cache", events)

    assert wait(child(audited)) == 0


def test_rows_of_two_merges_are_stored_once(folder):
    fill(folder / "cache", range(6))
    fill(folder / "cache", range(3, 9))
    assert num_double_rows(folder / "cache") == 0
    assert fl.FeatureCache(folder / "cache").verify() == ()
