import pytest
import torch

import frostline as fl
from frostline.caching import golden, shard_writer
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
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 1)
    liar = Part()
    liar.extract = lambda x: (x * 2.01,)
    with pytest.raises(fl.CacheError, match="not what the model computes today"):
        fill(tmp_path, liar, dataset(2 * N), batch_size=4)
    assert shards(tmp_path) == before


class Listening:
    """Stands for the frozen part; it keeps which samples were computed."""

    def __init__(self):
        self.asked, self.largest = [], 0

    def compute(self, batch, indices):
        self.asked += indices
        self.largest = max(self.largest, len(indices))
        return {"low": batch}

    def check_golden(self, found, stored, indices):
        assert found["low"].tolist() == stored["low"].tolist() == indices


@pytest.mark.parametrize("count", [1, 5, 16, 17, 31, 32, 33, 64, 1000])
def test_golden_rows_are_spread_over_all_that_passed(count):
    computer = Listening()
    rows = golden.Golden(computer, lambda indices: {"low": torch.tensor(indices)}, batch_size=5)
    for index in range(count):
        rows.offer(index, torch.tensor(index))
    rows.check()
    asked = list(computer.asked)
    assert len(asked) == min(count, golden.GOLDEN_ROWS)
    assert computer.largest <= 5
    gaps = [after - before for before, after in zip([-1, *asked], [*asked, count], strict=True)]
    assert min(gaps) > 0
    assert max(gaps) <= 4 * max(1, count / golden.GOLDEN_ROWS)
    rows.check()  # they are forgotten
    assert computer.asked == asked
