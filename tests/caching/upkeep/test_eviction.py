import os
import time

import pytest

import frostline as fl
from frostline.caching.location.use import USE_LOCK
from helpers_caching import N, Part, fill


def filled(root, *scales):
    """A cache with one recipe for each scale, the first one used longest ago; (cache, names of the recipes)."""
    names = []
    for at, scale in enumerate(scales):
        before = {path.name for path in root.iterdir()} if root.exists() else set()
        fill(root, Part(scale))
        (new,) = {path.name for path in root.iterdir()} - before
        then = time.time() - 86_400 * 10 * (len(scales) - at)
        os.utime(root / new / USE_LOCK, (then, then))
        names.append(new)
    return fl.FeatureCache(root), names


def test_what_was_used_longest_ago_goes_first_until_the_size_is_reached(tmp_path):
    cache, names = filled(tmp_path, 1.0, 2.0, 3.0)
    sizes = {entry.recipe: entry.bytes for entry in cache.entries()}
    found = cache.prune(max_bytes=sizes[names[2]] + sizes[names[1]])
    assert found.evicted == (names[0],)
    assert found.freed_bytes == sizes[names[0]]
    assert found.kept_bytes == sizes[names[2]] + sizes[names[1]]
    assert {entry.recipe for entry in cache.entries()} == set(names[1:])
    assert cache.prune(max_bytes=sum(sizes.values())).evicted == ()
    assert str(found).startswith("1 recipe evicted")


def test_age_evicts_what_is_small_and_use_makes_young_again(tmp_path):
    cache, names = filled(tmp_path, 1.0, 2.0)
    fill(tmp_path, Part(1.0))
    assert cache.prune(unused_days=5).evicted == (names[1],)
    assert cache.prune(unused_days=5).evicted == ()
    assert fill(tmp_path, Part(1.0)).figures.computed == 0
    assert fill(tmp_path, Part(2.0)).figures.computed == N


def test_what_a_reader_has_mapped_stays_and_is_named(tmp_path):
    cache, names = filled(tmp_path, 1.0, 2.0)
    reading = fill(tmp_path, Part(1.0))
    found = cache.prune(max_bytes=0)
    assert found.in_use == (names[0],)
    assert found.evicted == (names[1],)
    assert names[0][:12] in str(found)
    assert len(reading[0][0]) == 1
    del reading
    assert cache.prune(max_bytes=0).evicted == (names[0],)
    assert list(tmp_path.iterdir()) == []


def test_a_fill_that_is_under_way_keeps_its_recipe(tmp_path):
    cache = fl.FeatureCache(tmp_path)
    seen = []

    class Watched(Part):
        def extract(self, inputs):
            seen.append(cache.prune(unused_days=0))
            return super().extract(inputs)

    data = fill(tmp_path, Watched())
    assert data.figures.computed == N
    assert seen
    assert all(found.evicted == () for found in seen)
    assert any(found.in_use for found in seen)


def test_limits_that_are_none_are_refused(tmp_path):
    fill(tmp_path)
    cache = fl.FeatureCache(tmp_path)
    with pytest.raises(fl.DataError, match="Nothing says what should be deleted"):
        cache.prune()
    for limits in ({"max_bytes": -1}, {"unused_days": float("nan")}):
        with pytest.raises(fl.DataError, match=next(iter(limits))):
            cache.prune(**limits)
    assert fill(tmp_path).figures.computed == 0
