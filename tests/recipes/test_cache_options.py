from importlib import import_module

import pytest
import torch

import frostline as fl
from frostline.recipes.cache_options import cache_options
from helpers_caching import fill
from helpers_fit import D, data, fit, mlp


def test_a_cache_is_the_one_of_the_run_a_folder_none_or_planned(tmp_path):
    assert cache_options(True, "exact", None, []).cache is True
    assert cache_options(False, "exact", None, []).cache is False
    assert cache_options(str(tmp_path), "exact", None, []).cache.root == tmp_path
    planned = cache_options("auto", "exact", None, [])
    assert planned.cache is True
    assert planned.is_planned
    assert not cache_options(tmp_path, "exact", None, []).is_planned


def test_a_resumed_run_must_have_what_is_not_as_usual():
    assert cache_options(True, "exact", None, []).described == {}
    given = cache_options(True, "int8", ["fold", "bf16"], [])
    assert given.described == {"storage": "int8", "frozen pass": " ".join(given.frozen_pass)}


def test_without_a_fill_no_pass_is_made_faster():
    with pytest.raises(fl.DataError, match="this run fills no cache"):
        cache_options(False, "exact", "fold", [])


@pytest.mark.parametrize("options", [{"storage": "float16"}, {"frozen_pass": "fold"}, {"cache": "auto"}])
def test_cached_features_take_no_option_of_a_fill(tmp_path, options):
    model = mlp()
    fl.freeze(model, "2")
    split = fl.split(model, torch.zeros(4, D))
    cached = fl.FeatureCache(tmp_path).fill(split, data())
    with pytest.raises(fl.DataError, match=r"this run fills no cache|already cached"):
        fit(split.head, cached, epochs=1, **options)


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_without_a_fill_nothing_is_rounded(storage):
    with pytest.raises(fl.DataError, match="There are no features to round") as error:
        cache_options(False, storage, None, [])
    assert error.value.received == f"{storage!r} with cache=False"


def test_cached_features_were_rounded_when_they_were_filled(tmp_path):
    features = fill(tmp_path)
    with pytest.raises(fl.DataError, match="There are no features to round") as error:
        cache_options(True, "int8", None, features)
    assert error.value.received == "'int8' with cached features"


def test_a_run_of_rounded_features_is_not_resumed_without_a_cache(tmp_path):
    fit(mlp(), freeze="2", storage="int8", epochs=1, out=tmp_path)
    for options in ({"storage": "int8"}, {}):
        with pytest.raises(fl.DataError):
            fit(mlp(), freeze="2", epochs=2, out=tmp_path, resume=tmp_path, cache=False, **options)


def test_a_short_phase_of_rounded_features_has_a_cache_on_every_machine(tmp_path, monkeypatch):
    """Whether a phase is trained without a cache follows from times; of rounded rows that would be another result."""
    monkeypatch.setattr(import_module("frostline.recipes.fit"), "frozen_epoch_at_most_s", lambda setup: 0.0)
    options = {"freeze": "4", "thaw": {2: "3"}, "epochs": 3}
    rounded = fit(mlp(), storage="int8", out=tmp_path / "rounded", **options)
    exact = fit(mlp(), out=tmp_path / "exact", **options)
    assert [phase.cache is not None for phase in rounded.phases] == [True, True]
    assert [phase.cache is not None for phase in exact.phases] == [True, False]
