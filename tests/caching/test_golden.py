import pytest

import frostline as fl
from frostline.caching import golden, writing
from helpers_caching import N, Part, dataset, fill, shards


def test_a_second_fill_computes_golden_rows_only(tmp_path):
    fill(tmp_path)
    part = Part()
    data = fill(tmp_path, part)
    assert part.samples <= golden.GOLDEN_ROWS + 1  # one more: a sample alone, to see that rows ignore their mates
    assert (data.figures.computed, data.figures.reused) == (0, N)


def test_stale_rows_are_found_by_the_golden_rows(tmp_path):
    fill(tmp_path)
    liar = Part()
    liar.extract = lambda x: (x * 2.01,)
    with pytest.raises(fl.CacheError, match="not what the model computes today"):
        fill(tmp_path, liar)


def test_nothing_is_published_beside_stale_rows(tmp_path, monkeypatch):
    fill(tmp_path)
    before = shards(tmp_path)
    monkeypatch.setattr(writing, "SHARD_BYTES", 1)
    liar = Part()
    liar.extract = lambda x: (x * 2.01,)
    with pytest.raises(fl.CacheError, match="not what the model computes today"):
        fill(tmp_path, liar, dataset(2 * N), batch_size=4)
    assert shards(tmp_path) == before
