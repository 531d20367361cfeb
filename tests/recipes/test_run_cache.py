"""The cache that a run uses."""

import os
from pathlib import Path

import pytest

import frostline as fl
from frostline.recipes.run_cache import cache_of
from helpers_fit import fit, mlp


def test_the_default_cache_lies_in_the_users_cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = fit(mlp(), freeze="2", epochs=1)
    assert Path(result.cache.path).parent == tmp_path / "frostline"
    assert (tmp_path / "frostline").stat().st_mode & 0o777 == 0o700
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path)


@pytest.mark.parametrize("kind", [str, Path, fl.FeatureCache])
def test_a_cache_may_be_a_path_or_a_cache(tmp_path, kind):
    result = fit(mlp(), freeze="2", epochs=1, cache=kind(tmp_path / "mine"))
    assert Path(result.cache.path).parent == tmp_path / "mine"


def test_the_folder_of_a_run_holds_its_cache_unless_the_caller_has_one(tmp_path):
    own = fl.FeatureCache(tmp_path / "own")
    assert cache_of(own, tmp_path) is own
    assert cache_of(True, tmp_path).root == tmp_path / "cache"
