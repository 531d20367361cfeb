import shutil
from collections import namedtuple

import pytest
import torch

import frostline as fl
from frostline.caching.fill import view_cost
from frostline.caching.fill.view_cost import ViewCost, check_room, measured_cost
from frostline.caching.samples.views import Views
from frostline.core.item_form import PAIRS
from frostline.core.units import size_text
from helpers_caching import Part, dataset, fill
from helpers_views import D, Keyed, N, Random

Usage = namedtuple("Usage", "total used free")


def test_a_random_dataset_is_told_what_views_of_it_cost(tmp_path):
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        fill(tmp_path, data=Random())
    assert "views=4" in error.value.do
    assert f"and {size_text(4 * N * 4 * D)} once, on this machine, for {N} samples" in error.value.do


def test_the_cost_is_that_of_all_rows():
    assert str(ViewCost(2000, 4, 0.01, 2048)) == (
        "views=4 takes about 80.0 s and 16.4 MB once, on this machine, for 2,000 samples"
    )
    assert "33.3 h" in str(ViewCost(100, 4, 300.0, 1))
    assert "1 ms and 800 bytes" in str(ViewCost(100, 4, 2.5e-6, 2))
    assert [size_text(count) for count in (999, 1000, 2.5e6, 3e9)] == ["999 bytes", "1.0 KB", "2.5 MB", "3.0 GB"]


def test_what_cannot_be_measured_has_no_cost():
    class Ragged(Random):
        def __getitem__(self, index):
            return torch.randn(6 + index), 0

    class Failing(Part):
        def extract(self, inputs):
            raise RuntimeError("out of memory")

    assert measured_cost(Part(), Ragged(), PAIRS, 4) is None
    assert measured_cost(Failing(), Random(), PAIRS, 4) is None
    found = measured_cost(Part(), Random(), PAIRS, 4)
    assert (found.num_samples, found.views, found.row_bytes) == (N, 4, 4 * D)
    assert found.row_s > 0


def with_free(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, free))


def test_views_that_do_not_fit_on_the_disk_are_refused_before_any_is_computed(tmp_path, monkeypatch):
    part = Part()
    with_free(monkeypatch, 4 * D * N * 2 + 10)
    with pytest.raises(fl.CacheError, match="The disk has no room for so many views") as error:
        fill(tmp_path, part, Random(), views=5)
    assert "views=2, which fit" in error.value.do
    assert "50 rows of 24 bytes: 1.2 KB needed, 490 bytes free" in error.value.received
    assert part.samples == 0
    assert fill(tmp_path, part, Random(), views=2).figures.computed == 2 * N


def test_stored_views_need_no_room(tmp_path, monkeypatch):
    fill(tmp_path, data=Keyed(), views=3)
    with_free(monkeypatch, 4 * D * N)
    assert fill(tmp_path, data=Keyed(), views=4).figures.computed == N
    with_free(monkeypatch, 0)
    assert fill(tmp_path, data=Keyed(), views=4).figures.computed == 0
    with pytest.raises(fl.CacheError, match="no room for so many views") as error:
        fill(tmp_path, data=Keyed(), views=6)
    assert "views=4, which fit" in error.value.do


def test_where_not_one_view_fits_another_remedy_is_named(tmp_path, monkeypatch):
    with_free(monkeypatch, 10)
    with pytest.raises(fl.CacheError, match="no room") as error:
        check_room(tmp_path, Views(dataset(), 2), 2 * len(dataset()), 24)
    assert error.value.do.startswith("not one view of all samples fits: freeze more layers")
    assert view_cost.bytes_of_row(Part()) == 24
