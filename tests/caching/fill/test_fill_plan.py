import pytest
import torch
from torch import nn

import frostline as fl
from frostline.caching.fill.fill_plan import FillPlan
from helpers_caching import Masked, MaskedPart, N, Offering, Part, dataset, fill
from helpers_lengths import Sentences, pad, sentences


def plan(root, data, part=None):
    return fl.FeatureCache(root).plan(part or Part(), data)


def test_a_dataset_without_keys_is_read_whole_and_stored_rows_count_as_its_own(tmp_path):
    before = plan(tmp_path, dataset())
    assert (before.known, before.num_missing, before.read()) == (None, N, range(N))
    fill(tmp_path)
    after = plan(tmp_path, dataset(N + 5))
    assert (after.known, after.num_missing, len(after.read())) == (None, 5, N + 5)
    assert (
        str(after) == f"{N + 5} samples, {N + 5} to read; their keys follow from their content, and {N} rows are stored"
    )


def test_known_samples_with_targets_are_not_read(tmp_path):
    fill(tmp_path, data=Offering(30))
    data = Offering(N)
    found = plan(tmp_path, data)
    assert (found.known, found.recalled, found.read()) == (range(30), range(30), range(30, N))
    assert (found.num_missing, data.decoded) == (N - 30, 0)
    assert str(found) == f"{N} samples, {N - 30} to read, {N - 30} rows to compute, 30 stored"
    assert found.reading_all().read() == range(N)


def test_known_samples_whose_targets_only_items_tell_are_read(tmp_path):
    fill(tmp_path, data=Offering())
    data = Offering()
    data.target = None
    found = plan(tmp_path, data)
    assert (found.num_missing, found.recalled, len(found.read())) == (0, (), N)


def test_known_samples_whose_inputs_go_to_the_head_are_recalled_from_the_snapshot_that_holds_them(tmp_path):
    fill(tmp_path, MaskedPart(), Masked(0, 20))
    fill(tmp_path, MaskedPart(), Masked(10, 30))
    found = plan(tmp_path, Masked(0, 40), MaskedPart())
    assert found.recalled == range(30)


def test_the_seconds_of_a_row_are_those_that_the_last_fill_has_measured(tmp_path):
    assert plan(tmp_path, dataset()).row_s == 0
    figures = fill(tmp_path).figures
    assert plan(tmp_path, dataset()).row_s > 0
    again = fill(tmp_path).figures
    assert (again.computed, again.row_s) == (0, plan(tmp_path, dataset()).row_s)
    assert figures.row_s > 0


def test_more_stored_rows_than_samples_leave_nothing_to_compute():
    assert FillPlan(10, 30, 0.0).num_missing == 0


def test_a_sample_that_lacks_an_input_is_named(tmp_path):
    class Lacking(Masked):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return {name: own for name, own in item.items() if (name, index) != ("mask", 7)}

    with pytest.raises(fl.DataError, match="Sample 7 has no input 'mask'") as error:
        fill(tmp_path, MaskedPart(), Lacking(0, 20))
    assert error.value.received == "inputs 'x'"


def test_a_plan_follows_the_ways_of_the_fill(tmp_path):
    torch.manual_seed(0)
    model, data = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)), [(torch.randn(6), at % 2) for at in range(20)]
    fl.freeze(model, through="0")
    split, cache = fl.split(model, torch.randn(4, 6)), fl.FeatureCache(tmp_path)
    cache.fill(split, data, frozen_pass="bf16", progress=False)
    assert cache.plan(split, data, frozen_pass="bf16").num_missing == 0
    assert cache.plan(split, data).num_missing == 20


def test_a_plan_takes_samples_of_differing_length(tmp_path):
    torch.manual_seed(0)
    model, data = Sentences(), sentences(12)
    fl.freeze(model, through="low")
    example = {name: own for name, own in pad(data[:4]).items() if name != "labels"}
    cache, split = fl.FeatureCache(tmp_path), fl.split(model, example)
    assert cache.plan(split, data, collate_fn=pad).num_missing == 12
    cache.fill(split, data, collate_fn=pad, progress=False)
    assert cache.plan(split, data, collate_fn=pad).num_missing == 0
    with pytest.raises(fl.DataError, match="no collate function says"):
        cache.plan(split, data)
