import shutil
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

import frostline as fl
from exams.reliability.building import Calls
from frostline.caching.store import opening
from frostline.caching.store.shard_writer import MERGE_LOCK
from frostline.caching.store.shards import Shards
from frostline.caching.upkeep import forgotten
from frostline.core import io, locks
from helpers_caching import Masked, MaskedPart, N, Offering, Part, dataset, fill, opened_in, shards
from helpers_lengths import Sentences, pad, sentences


def stored_bytes(root):
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def fail(_):
    raise OSError(5, "Input/output error")


def row_bytes(data, index, scale=2.0):
    return (data[index][0] * scale).numpy().tobytes()


def test_rows_of_forgotten_samples_are_in_no_file_and_all_others_are_served(tmp_path):
    data = dataset()
    fill(tmp_path, data=data)
    fill(tmp_path, Part(3.0), data=data)
    cache = fl.FeatureCache(tmp_path)
    assert row_bytes(data, 3) in stored_bytes(tmp_path)
    assert cache.forget(Subset(data, [3, 17])) == 4
    left = stored_bytes(tmp_path)
    for scale in (2.0, 3.0):
        assert row_bytes(data, 3, scale) not in left
        assert row_bytes(data, 17, scale) not in left
        assert row_bytes(data, 4, scale) in left
    assert cache.verify() == ()
    assert cache.forget(Subset(data, [3, 17])) == 0
    again = fill(tmp_path, data=data)
    assert again.figures.computed == 2
    assert torch.equal(again[17][0][0], data[17][0] * 2)


def test_a_dataset_with_keys_is_not_read(tmp_path):
    data = Offering()
    fill(tmp_path, data=data)
    data.decoded = 0
    assert fl.FeatureCache(tmp_path).forget(data) == N
    assert data.decoded == 0
    assert not list(tmp_path.glob("*/shards/*"))
    assert fill(tmp_path, data=data).figures.computed == N


def test_inputs_for_the_head_are_forgotten_too_with_replaced_and_set_aside_files(tmp_path):
    for stop in (20, 30):
        fill(tmp_path, MaskedPart(), Masked(stop=stop))
    (folder,) = tmp_path.iterdir()
    (folder / "set-aside").mkdir()
    (folder / "set-aside" / f"{'0' * 64}.safetensors").write_bytes(b"torn")
    mask = torch.tensor([7.0, 1.0]).numpy().tobytes()
    assert mask in stored_bytes(tmp_path)
    assert fl.FeatureCache(tmp_path).forget(Masked(7, 8)) >= 1
    assert mask not in stored_bytes(tmp_path)
    assert not list((folder / "set-aside").iterdir())
    again = fill(tmp_path, MaskedPart(), Masked(stop=30))
    assert again.figures.computed == 1
    assert again[7][0][1].tolist() == [7.0, 1.0]


def test_views_are_forgotten_with_their_number(tmp_path):
    data = Offering()
    fill(tmp_path, data=data, views=3)
    cache = fl.FeatureCache(tmp_path)
    assert cache.forget(data, views=2) == 2 * N
    assert fill(tmp_path, data=data, views=3).figures.computed == 2 * N
    assert cache.forget(data, views=3) == 3 * N


def test_sentences_are_forgotten_by_the_function_that_padded_them(tmp_path):
    cache, data, model = fl.FeatureCache(tmp_path), sentences(), Sentences()
    fl.freeze(model, "low")
    split = fl.split(model, {name: own for name, own in pad(data[:4]).items() if name != "labels"})
    cache.fill(split, data, collate_fn=pad, progress=False)
    assert cache.forget(data[:5], collate_fn=pad) == 5
    assert cache.fill(split, data, collate_fn=pad, progress=False).figures.computed == 5


def test_a_file_of_a_living_writer_stays(tmp_path):
    fill(tmp_path)
    (folder,) = tmp_path.iterdir()
    own = Shards(folder / "shards")
    with ExitStack() as hold:
        written = own.path(own.write({"x": torch.full((5,), 1.0)}, hold))
        own.keep_only(set())
        fl.FeatureCache(tmp_path).forget(Subset(dataset(), [0]))
        assert written.exists()
    fl.FeatureCache(tmp_path).forget(Subset(dataset(), [1]))
    assert not written.exists()


def test_while_another_process_merges_nothing_is_forgotten(tmp_path, monkeypatch):
    fill(tmp_path)
    (folder,) = tmp_path.iterdir()
    monkeypatch.setattr(forgotten, "_WAIT_S", 0.0)
    with locks.held(folder / MERGE_LOCK, wait_s=0), pytest.raises(fl.CacheError, match="rewrites this part"):
        fl.FeatureCache(tmp_path).forget(dataset())
    assert fill(tmp_path).figures.computed == 0


def test_whatever_call_fails_or_dies_a_second_try_forgets(tmp_path):
    data, at = dataset(4), 0
    fill(tmp_path / "filled", data=data)
    while True:
        at += 1
        root = tmp_path / str(at)
        shutil.copytree(tmp_path / "filled", root)
        real = io.call

        calls = Calls(at, fail)
        io.call = calls
        is_done = False
        try:
            fl.FeatureCache(root).forget(Subset(data, [2]))
            is_done = True
        except fl.FrostlineError as error:
            assert all(error.parts().values())
        finally:
            io.call = real
        if is_done and calls.count < at:
            break
        fl.FeatureCache(root).forget(Subset(data, [2]))
        assert row_bytes(data, 2) not in stored_bytes(root), at
        assert all(row_bytes(data, index) in stored_bytes(root) for index in (0, 1, 3)), at
        shutil.rmtree(root)
    assert at > 10


def test_a_row_whose_key_is_damaged_is_deleted_from_a_large_cache_too(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)
    data = dataset()
    fill(tmp_path, data=data)
    cache, (path,) = fl.FeatureCache(tmp_path), shards(tmp_path)
    opened = opened_in(cache)
    key = opened.rows().keys_of(np.array([3])).tobytes()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(key, bytes(16)))
    fl.FeatureCache(tmp_path).forget(Subset(data, [3]))
    assert row_bytes(data, 3) not in stored_bytes(tmp_path)
