import pytest
import torch

import frostline as fl
from frostline.caching.store.claims import LockedClaims
from helpers_climb import Counted, Run, Watched, dataset, network


def test_rows_that_are_stored_twice_or_known_are_computed_once(tmp_path):
    inputs, targets = dataset(50).tensors
    double = Counted(torch.cat([inputs, inputs]), torch.cat([targets, targets]))
    Run(tmp_path, dataset(50)).fill("3")
    for folder, computed in ((tmp_path, 0), (tmp_path / "new", 50)):
        run = Run(folder, double)
        run.fill("1")
        assert run.climb().figures.computed == computed


def test_a_middle_that_computes_something_else_is_seen(tmp_path):
    run = Run(tmp_path, dataset())
    run.fill("1")
    other = network()
    with torch.no_grad():
        other[2].weight += 0.1
    wrong = Run(tmp_path / "other", dataset(), other)
    wrong.fill("1")
    wrong.fill("3")
    with pytest.raises(fl.CacheError, match="Stored features are not what the model computes"):
        run.climb(middle=wrong.middle)
    assert {entry.tensors: entry.rows for entry in run.cache.entries()} == {("1",): 200, (): 0}


def test_all_batches_have_one_size_and_every_row_is_stored_once(tmp_path):
    run = Run(tmp_path, dataset())
    run.fill("1")
    sizes = []

    climbed = run.climb(middle=lambda: Watched(run.middle(), sizes.append))
    assert sizes == [32] * 7  # 200 rows
    assert (climbed.figures.computed, len(climbed)) == (200, 200)


def test_builders_share_out_what_they_climb(tmp_path, monkeypatch):
    monkeypatch.setattr(LockedClaims, "patience_s", -1.0)  # the outer one stands still while the inner one runs
    outer, inner = Run(tmp_path, dataset()), Run(tmp_path, dataset())
    outer.fill("1")
    inner.fill("1")
    sizes, found = [], []

    def meanwhile(count):
        sizes.append(count)
        if len(sizes) == 2:
            found.append(inner.climb())

    climbed = outer.climb(middle=lambda: Watched(outer.middle(), meanwhile))
    assert found[0].figures.computed == 200
    assert 32 <= climbed.figures.computed <= 96  # what was claimed before
    assert climbed.figures.computed + climbed.figures.reused == 200
    assert 16 < outer.data.reads < 16 + 10  # some of the other's rows are proven
    for ours, theirs in zip(climbed, found[0], strict=True):
        assert torch.equal(ours[0][0], theirs[0][0])
