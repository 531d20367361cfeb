"""Builders that fill one cache at once: in processes, in threads for machines, and one within the other."""

import fsspec
import numpy as np
import pytest
import torch

import frostline as fl
from exams.reliability.shares import shares_in_a_store, shares_on_a_disk
from frostline.caching.fill import frozen_pass, missing_rows, turns
from frostline.caching.fill.row_proof import RowProof
from frostline.caching.keys import as_words, offered_keys
from frostline.caching.location.store_claims import StoreClaims
from frostline.caching.store import claims
from frostline.caching.store.claims import LockedClaims
from helpers_caching import N, Offering, Part, dataset, fill


@pytest.fixture
def _patient(monkeypatch):
    """On a busy machine a builder may stand still for seconds."""
    monkeypatch.setattr(claims, "_WAIT_S", 60.0)
    for own in (LockedClaims, StoreClaims):
        monkeypatch.setattr(own, "patience_s", 60.0)


@pytest.fixture
def _hasty(monkeypatch):
    for own in (LockedClaims, StoreClaims):
        monkeypatch.setattr(own, "patience_s", -1.0)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("has_keys", [True, False])
def test_builders_at_once_compute_each_row_once(has_keys):
    assert shares_on_a_disk(3, 80, 0.001, has_keys=has_keys) == 1.0


@pytest.mark.usefixtures("_patient")
def test_machines_on_one_store_compute_each_row_once(tmp_path):
    assert shares_in_a_store(f"memory://{tmp_path.name}/features", {}, 2, 80, 0.001) == 1.0
    files = fsspec.filesystem("memory")
    assert [own for own in files.find(f"/{tmp_path.name}") if "/claims/" in own or "/leases/" in own] == []
    files.store.clear()


class Meanwhile(Part):
    """A part that lets another fill run while it computes its second batch."""

    def __init__(self, run):
        super().__init__()
        self.run, self.calls = run, 0

    def extract(self, inputs):
        self.calls += 1
        if self.calls == 2:
            self.run()
        return super().extract(inputs)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("has_keys", [True, False])
def test_what_others_have_published_meanwhile_is_found(tmp_path, has_keys):
    data = Offering() if has_keys else dataset()
    inner = []
    part = Meanwhile(lambda: inner.append(fill(tmp_path, data=Offering() if has_keys else dataset(), batch_size=4)))
    found = fill(tmp_path, part, data, batch_size=4)
    assert inner[0].figures.computed == N  # it could not know how long this one would stand still
    assert (found.figures.computed, found.figures.reused) == (4, N - 4)
    assert all(torch.equal(found[at][0][0], dataset()[at][0] * 2) for at in range(N))
    assert [found[at][1] for at in range(N)] == [at % 4 for at in range(N)]
    if has_keys:
        assert data.decoded < 20  # few for the proof; the others are known by their targets
    assert list(tmp_path.rglob("*.claim")) == []


@pytest.mark.usefixtures("_hasty")
def test_what_others_have_published_meanwhile_is_proven(tmp_path):
    class Wrong(Part):
        def extract(self, inputs):
            return (inputs * 3,)

    part = Meanwhile(lambda: fill(tmp_path, Wrong(), Offering(), batch_size=4))
    with pytest.raises(fl.CacheError, match="Stored features"):
        fill(tmp_path, part, Offering(), batch_size=4)


def test_a_builder_that_is_stopped_is_waited_for_and_then_left(tmp_path, monkeypatch):
    fill(tmp_path, data=Offering(8))
    (folder,) = tmp_path.iterdir()
    stopped = LockedClaims(folder / "claims")
    ids = np.concatenate([as_words(part)[:, 0] for _, part in offered_keys(Offering())])
    assert stopped.take(ids[10:20], most=99).all()
    waits, now = [], [0.0]

    def wait(seconds):
        waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(turns, "_wait", wait)
    monkeypatch.setattr(turns.time, "monotonic", lambda: now[0])
    part = Part()
    data = fill(tmp_path, part, Offering(), batch_size=4)
    assert (data.figures.computed, data.figures.reused) == (N - 8, 8)
    assert LockedClaims.patience_s <= sum(waits) < LockedClaims.patience_s + 2
    stopped.close()


def test_where_all_is_known_nothing_is_claimed(tmp_path, monkeypatch):
    fill(tmp_path, data=Offering())
    fill(tmp_path)
    monkeypatch.setattr(missing_rows, "claims_of", lambda opened: pytest.fail("something is claimed"))
    for data in (Offering(), dataset()):
        assert fill(tmp_path, data=data).figures.computed == 0


def test_worker_processes_read_what_is_claimed(tmp_path):
    data = fill(tmp_path, data=Offering(), batch_size=4, num_workers=2)
    assert data.figures.computed == N
    assert np.all([data[at][1] == at % 4 for at in range(N)])


# --- A GPU computes one batch while the next one is read. The order of work is the same with one that is a processor.


@pytest.fixture
def _behind(monkeypatch):
    """The frozen part counts as one on a GPU; what would be copied there stays where it is."""

    class Uploads:
        def __init__(self, device):
            self.device = device

        def upload(self, batch):
            return batch

    monkeypatch.setattr(frozen_pass, "Uploads", Uploads)
    monkeypatch.setattr(frozen_pass.Computer, "is_on_gpu", property(lambda self: self.device is not None))


class Traced(Part):
    """A part that notes its batches in the order in which they are computed."""

    def __init__(self, events):
        super().__init__()
        self.events = events

    def extract(self, inputs):
        self.events.append(f"launch {len(inputs)}")
        return super().extract(inputs)


@pytest.mark.usefixtures("_behind")
@pytest.mark.parametrize("has_keys", [True, False])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_rows_of_a_device_that_is_behind_are_those_of_their_samples(tmp_path, has_keys, batch_size):
    found = fill(tmp_path, data=Offering() if has_keys else dataset(), batch_size=batch_size)
    assert (found.figures.computed, found.figures.reused) == (N, 0)
    assert all(torch.equal(found[at][0][0], dataset()[at][0] * 2) for at in range(N))
    assert [found[at][1] for at in range(N)] == [at % 4 for at in range(N)]
    again = fill(tmp_path, data=Offering() if has_keys else dataset(), batch_size=batch_size)
    assert (again.figures.computed, again.figures.reused) == (0, N)


@pytest.mark.usefixtures("_behind")
def test_a_batch_is_launched_before_the_last_one_is_stored(tmp_path, monkeypatch):
    events = []
    write = turns.Turns.write

    def noted(self, positions, keys, rows):
        events.append(f"store {len(positions)}")
        write(self, positions, keys, rows)

    monkeypatch.setattr(turns.Turns, "write", noted)
    monkeypatch.setattr(RowProof, "check", lambda self, *, is_last=False: None)
    fill(tmp_path, Traced(events), batch_size=4)
    assert events[:2] == ["launch 4", "store 4"]  # the first shows where the frozen part runs, and is proven
    assert events[2:6] == ["launch 4", "launch 4", "store 4", "launch 4"]
    assert events[-1].startswith("store")
    assert sum(own.startswith("store") for own in events) == -(-N // 4)


@pytest.mark.usefixtures("_behind")
def test_a_row_that_is_not_finite_is_named_though_the_next_batch_was_launched(tmp_path):
    class Broken(Part):
        def extract(self, inputs):
            (made,) = super().extract(inputs)
            made[inputs[:, 0] == dataset()[21][0][0]] = float("nan")
            return (made,)

    with pytest.raises(fl.DataError, match="not finite") as error:
        fill(tmp_path, Broken(), batch_size=4)
    assert error.value.where == "samples 21"
