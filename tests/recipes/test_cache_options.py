import pytest
import torch

import frostline as fl
from frostline.recipes.cache_options import cache_options
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


def test_without_a_fill_no_features_are_rounded():
    with pytest.raises(fl.DataError, match="There are no features to round: this run fills no cache"):
        cache_options(False, "int8", None, [])


@pytest.mark.parametrize("options", [{"storage": "float16"}, {"frozen_pass": "fold"}, {"cache": "auto"}])
def test_cached_features_take_no_option_of_a_fill(tmp_path, options):
    model = mlp()
    fl.freeze(model, "2")
    split = fl.split(model, torch.zeros(4, D))
    cached = fl.FeatureCache(tmp_path).fill(split, data())
    with pytest.raises(fl.DataError, match=r"this run fills no cache|already cached"):
        fit(split.head, cached, epochs=1, **options)
