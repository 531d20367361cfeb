import pytest
import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.fill import frozen_pass
from frostline.caching.store import shard_writer
from helpers_caching import D, N, Part, dataset, fill, shards
from helpers_passes import images, network


def test_features_that_are_not_finite_name_their_samples(tmp_path):
    inputs, targets = dataset().tensors
    inputs[[3, 33], 0] = float("nan")
    with pytest.raises(fl.DataError, match="features 'low' are not finite") as error:
        fill(tmp_path, data=TensorDataset(inputs, targets), batch_size=64)
    assert error.value.where == "samples 3, 33"


def test_a_part_that_mixes_samples_is_refused(tmp_path):
    part = Part()
    part.extract = lambda x: (x - x.mean(0),)
    with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
        fill(tmp_path, part, batch_size=8)


def test_a_part_that_mixes_samples_is_refused_in_batches_of_one_too(tmp_path):
    part = Part()
    part.extract = lambda x: (x - x.mean(0),)
    with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
        fill(tmp_path, part, batch_size=1)
    assert not shards(tmp_path)
    assert len(fill(tmp_path, batch_size=1)) == N


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_part_that_depends_on_the_place_in_the_batch_is_refused(tmp_path, batch_size):
    part = Part()
    part.extract = lambda x: (x * 2 + torch.arange(len(x))[:, None],)
    with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
        fill(tmp_path, part, batch_size=batch_size)


def test_shared_tensors_are_stored_once_and_watched(tmp_path):
    part = Part()
    part.frontier += (fl.FrontierTensor("table", (2,), torch.float32, 0, True),)
    part.extract = lambda x: (x * 2, torch.tensor([1.0, 2.0]))
    data = fill(tmp_path, part)
    assert torch.equal(data[3][0][1], torch.tensor([1.0, 2.0]))
    for features, _ in data.loader(7):
        assert features[1].shape == (2,)
    changing = Part(9.0)
    changing.frontier = part.frontier
    changing.extract = lambda x: (x * 2, torch.tensor([1.0, float(len(x))]))
    with pytest.raises(fl.NotCacheable, match="was the same for every batch of the example"):
        fill(tmp_path, changing)


def test_of_many_samples_that_are_not_finite_the_first_are_named(tmp_path):
    inputs, targets = dataset().tensors
    inputs[5:15, 0] = float("inf")
    with pytest.raises(fl.DataError, match="not finite") as error:
        fill(tmp_path, data=TensorDataset(inputs, targets), batch_size=20)
    assert error.value.where == "samples 5, 6, 7, 8, 9, 10, 11, 12 and more"
    assert error.value.received == "NaN or Inf in 10 of 20 samples of the batch"
    whole = Part()
    whole.frontier = (fl.FrontierTensor("low", (D,), torch.int64, 8 * D, False),)
    whole.extract = lambda x: (x.sign().long(),)
    assert fill(tmp_path / "whole", whole)[3][0][0].tolist() == dataset()[3][0].sign().tolist()


@pytest.mark.parametrize(("error", "is_taken"), [(5e-5, True), (2e-4, False)])
def test_stored_rows_may_differ_by_what_kernels_do(tmp_path, error, is_taken):
    fill(tmp_path)
    other = Part()
    other.extract = lambda x: (x * 2 * (1 + error),)
    if is_taken:
        assert fill(tmp_path, other).figures.computed == 0
    else:
        with pytest.raises(fl.CacheError, match="not what the model computes today") as told:
            fill(tmp_path, other)
        assert told.value.received == "relative difference 2.0e-04, allowed 1e-04"
        assert told.value.where.startswith("low, samples 0, ")


@pytest.mark.parametrize("table", [lambda x: torch.ones(2), lambda x: torch.tensor([float("nan"), 1.0])])
def test_a_shared_tensor_may_hold_nan_and_must_keep_its_shape(tmp_path, table):
    part = Part()
    part.frontier += (fl.FrontierTensor("table", (2,), torch.float32, 0, True),)
    part.extract = lambda x: (x * 2, table(x))
    assert torch.equal(fill(tmp_path, part)[0][0][1].nan_to_num(), table(None).nan_to_num())
    assert fill(tmp_path, part).figures.computed == 0
    part.extract = lambda x: (x * 2, table(x).repeat(2))
    with pytest.raises(fl.NotCacheable, match="was the same for every batch of the example") as error:
        fill(tmp_path, part)
    assert "shape (4,)" in error.value.received


def test_minus_infinity_is_what_masks_are_made_of(tmp_path):
    part = Part()
    part.extract = lambda x: (x.masked_fill(x > 1, float("-inf")),)
    made = fill(tmp_path, part, batch_size=8)
    inputs = dataset().tensors[0]
    (rows,), _ = next(iter(made.loader(N)))
    assert torch.equal(rows, inputs.masked_fill(inputs > 1, float("-inf")))


def test_a_second_fill_computes_golden_rows_only(tmp_path):
    fill(tmp_path)
    part = Part()
    data = fill(tmp_path, part)
    assert part.samples <= frozen_pass.GOLDEN_ROWS + 1  # one more: a sample alone, to see that rows ignore their mates
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
    rows = frozen_pass.Golden(computer, lambda indices: {"low": torch.tensor(indices)}, batch_size=5)
    for index in range(count):
        rows.offer(index, torch.tensor(index))
    rows.check()
    asked = list(computer.asked)
    assert len(asked) == min(count, frozen_pass.GOLDEN_ROWS)
    assert computer.largest <= 5
    gaps = [after - before for before, after in zip([-1, *asked], [*asked, count], strict=True)]
    assert min(gaps) > 0
    assert max(gaps) <= 4 * max(1, count / frozen_pass.GOLDEN_ROWS)
    rows.check()  # they are forgotten
    assert computer.asked == asked


def test_rows_of_a_faster_pass_are_kept_apart_and_found_again(tmp_path):
    model = network()
    fl.freeze(model, through="5")
    split, cache = fl.split(model, images().tensors[0][:4]), fl.FeatureCache(tmp_path)

    def run(ways):
        return cache.fill(split, images(), batch_size=8, progress=False, frozen_pass=ways)

    plain, fast = run(None), run(["fold", "bf16"])
    assert (plain.figures.computed, fast.figures.computed) == (24, 24)
    assert "frozen pass: 3 of 3 frozen BatchNorms are folded" in fast.notes
    assert len(cache.entries()) == 2
    assert run("bf16").figures.computed == 24
    assert run(["bf16", "fold"]).figures.computed == 0
    for (ours, _), (theirs, _) in zip(fast.loader(8), plain.loader(8), strict=True):
        torch.testing.assert_close(ours[0], theirs[0], rtol=5e-2, atol=2e-2)
        assert not torch.equal(ours[0], theirs[0])


def test_a_part_that_can_only_run_as_it_is_has_no_faster_pass(tmp_path):
    with pytest.raises(fl.DataError, match="no faster pass") as error:
        fill(tmp_path, frozen_pass="fold")
    assert error.value.received == "Part"


def test_an_unknown_way_is_named(tmp_path):
    with pytest.raises(fl.DataError, match="no way 'fp8' to run the frozen part") as error:
        fill(tmp_path, frozen_pass=["fold", "fp8"])
    assert "'channels_last', 'fold', 'bf16', 'compile'" in error.value.do
