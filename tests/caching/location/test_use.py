import os
import time

import frostline as fl
from frostline.caching.location.use import USE_LOCK, evictable, in_use, last_used
from frostline.core import io
from helpers_caching import fill


def recipe_folder(root):
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    return folder


def is_evictable(folder):
    with evictable(folder) as is_free:
        return is_free


def test_a_recipe_is_not_evictable_while_it_is_filled_or_mapped(tmp_path):
    folder = tmp_path / ("a" * 32)
    with in_use(folder), in_use(folder):  # two fills at once
        assert not is_evictable(folder)
    assert is_evictable(folder)
    data = fill(tmp_path / "real")
    own = recipe_folder(tmp_path / "real")
    assert not is_evictable(own)  # its rows are mapped
    del data
    assert is_evictable(own)


def test_a_fill_that_waited_for_an_eviction_gets_a_lock_that_is_there(tmp_path):
    folder = tmp_path / ("a" * 32)
    with in_use(folder):
        pass
    real = io.call

    def evicting(function, *arguments, **options):
        found = real(function, *arguments, **options)
        if function is os.open and arguments[0] == folder / USE_LOCK and not is_evicted:
            is_evicted.append(True)
            (folder / USE_LOCK).unlink()
            folder.rmdir()
        return found

    is_evicted = []
    io.call = evicting
    try:
        with in_use(folder):
            io.call = real
            assert is_evicted
            assert not is_evictable(folder)
    finally:
        io.call = real


def test_use_is_known_by_its_time_and_in_older_caches_by_that_of_the_manifests(tmp_path):
    fill(tmp_path)
    folder = recipe_folder(tmp_path)
    os.utime(folder / USE_LOCK, (1_000_000, 1_000_000))
    assert last_used(folder) == 1_000_000
    fill(tmp_path)
    assert last_used(folder) > time.time() - 60
    (folder / USE_LOCK).unlink()
    os.utime(folder / "manifests", (2_000_000, 2_000_000))
    assert last_used(folder) == 2_000_000
    assert last_used(tmp_path / "nothing") == 0


def test_without_locks_a_fill_works_and_nothing_is_evictable(tmp_path):
    real = io.call

    def no_locks(function, *arguments, **options):
        if function.__name__ == "flock":
            raise OSError(38, "Function not implemented")
        return real(function, *arguments, **options)

    io.call = no_locks
    try:
        assert fill(tmp_path).figures.computed
        assert not is_evictable(recipe_folder(tmp_path))
        assert fl.FeatureCache(tmp_path).prune(max_bytes=0).evicted == ()
    finally:
        io.call = real


def test_a_cache_that_cannot_be_written_is_served_and_not_marked(tmp_path):
    fill(tmp_path)
    real = io.call

    def read_only(function, *arguments, **options):
        if function is os.open and arguments[0].name == USE_LOCK:
            raise OSError(30, "Read-only file system")
        return real(function, *arguments, **options)

    io.call = read_only
    try:
        assert fill(tmp_path).figures.computed == 0
    finally:
        io.call = real
