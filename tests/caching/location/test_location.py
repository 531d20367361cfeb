from pathlib import Path

import pytest

import frostline as fl
from frostline.caching.location.location import Location, cache_home


def test_a_folder_is_where_it_was_when_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Location("features", None, None, None)
    assert (place.root, str(place), place.holds("0" * 32)) == (tmp_path / "features", str(tmp_path / "features"), False)


def test_copies_lie_in_the_cache_home_one_folder_for_each_address(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = (Location(f"memory://{name}", None, None, None) for name in "ab")
    assert one.root.parent == other.root.parent == cache_home() / "remote"
    assert one.root != other.root
    assert str(one) == "memory://a"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path.home() / ".cache" / "frostline"


@pytest.mark.parametrize("option", [{"storage_options": {}}, {"local_folder": "copies"}, {"local_bytes": 5}])
def test_options_of_a_url_are_refused_for_a_folder(tmp_path, option):
    with pytest.raises(fl.DataError, match="is for a cache under a URL"):
        fl.FeatureCache(tmp_path, **option)


def test_a_cache_in_the_memory_of_a_process_is_not_for_several(tmp_path):
    Location(f"file://{tmp_path}").check_reached("fit(devices=2)")
    Location(tmp_path).check_reached("fit(devices=2)")
    with pytest.raises(fl.DataError, match="lies in the memory of one"):
        Location("memory://a").check_reached("fit(devices=2)")


def test_storage_options_that_are_no_mapping_are_refused():
    with pytest.raises(fl.DataError, match="are not a mapping"):
        fl.FeatureCache("memory://a", storage_options="key=1")
