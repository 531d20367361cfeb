from contextlib import ExitStack

import numpy as np
import torch

from frostline.caching.store import rows as rows_module
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.rows import Rows
from frostline.caching.store.shards import Shards


def rows_of(folder, *parts: np.ndarray) -> Rows:
    """An index over one shard per array of keys."""
    (folder / "shards").mkdir(parents=True)
    shards = Shards(folder / "shards")
    with ExitStack() as hold:
        names = tuple(shards.write({KEYS: torch.from_numpy(part)}, hold) for part in parts)
    return Rows(shards, names, [shards.open(name) for name in names])


def keys(*pairs: tuple[int, int]) -> np.ndarray:
    """(N, 16) keys of two numbers each: their first and second half."""
    return np.array(pairs, np.uint64).view(np.uint8).reshape(len(pairs), 16)


def test_every_key_is_found_where_it_lies(tmp_path):
    parts = [np.random.randint(0, 256, (count, 16)).astype(np.uint8) for count in (5, 1, 7)]
    rows = rows_of(tmp_path, *parts)
    assert rows.find(np.concatenate(parts)).tolist() == list(range(13))
    used, shard, row = rows.locate(np.array([0, 4, 5, 6, 12]))
    assert (used, shard.tolist(), row.tolist()) == ([0, 1, 2], [0, 0, 1, 2, 2], [0, 4, 0, 0, 6])
    used, shard, row = rows.locate(np.array([12, 3]))
    assert (used, shard.tolist(), row.tolist()) == ([0, 2], [1, 0], [6, 3])


def test_unknown_keys_are_minus_one(tmp_path):
    rows = rows_of(tmp_path, keys((5, 1), (9, 2)))
    asked = keys((4, 1), (5, 1), (7, 1), (10, 0))
    assert rows.find(asked).tolist() == [-1, 0, -1, -1]
    assert [rows.has(key) for key in asked] == [False, True, False, False]


def test_keys_that_share_their_first_half_are_told_apart(tmp_path):
    rows = rows_of(tmp_path, keys((5, 3), (1, 0)), keys((5, 1), (5, 2), (9, 0)))
    asked = keys((5, 1), (5, 2), (5, 3), (5, 4), (9, 1))
    assert rows.find(asked).tolist() == [2, 3, 0, -1, -1]
    assert [rows.has(key) for key in asked] == [True, True, True, False, False]


def test_an_empty_cache_knows_nothing(tmp_path):
    rows = rows_of(tmp_path)
    assert rows.find(keys((1, 2), (3, 4))).tolist() == [-1, -1]
    assert not rows.has(keys((1, 2))[0])


def test_an_index_of_many_rows_finds_each_in_any_order_and_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "_AT_ONCE", 7)
    own = np.random.default_rng(0).integers(0, 256, (60, 16), np.uint8)
    rows = rows_of(tmp_path, own[:0], own[:20], own[20:23], own[23:23], own[23:])
    order = np.random.default_rng(1).permutation(60)
    assert rows.find(own[order]).tolist() == order.tolist()
    assert rows.find(own).tolist() == list(range(60))
    assert (rows.keys_of(order).view(np.uint8) == own[order]).all()
    used, shard, row = rows.locate(order)
    assert [
        rows.starts[used[at]] + own_row for at, own_row in zip(shard.tolist(), row.tolist(), strict=True)
    ] == order.tolist()


def test_keys_that_differ_in_their_last_bits_alone_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "_AT_ONCE", 4)
    own = keys(*((7, last) for last in range(20)))
    rows = rows_of(tmp_path, own[10:], own[:10])
    assert rows.find(own[:12]).tolist() == [*range(10, 20), 0, 1]
    assert rows.find(keys((7, 20), (8, 0), (7 + 2**63, 3))).tolist() == [-1, -1, -1]


def test_of_rows_that_are_stored_twice_the_largest_shard_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "_AT_ONCE", 3)
    small, large = keys((1, 1), (2, 2), (2, 3)), keys((9, 9), (2, 3), (1, 1), (1, 1), (4, 4))
    rows = rows_of(tmp_path, small, large, keys((9, 9)))
    dropped, owners = rows.doubles()
    assert (dropped.tolist(), owners.tolist()) == ([0, 2, 6, 8], [1, 1, 1, 1])
    assert rows.find(keys((1, 1), (9, 9))).tolist() == [0, 3]
    none = rows_of(tmp_path / "none", small)
    assert [own.tolist() for own in none.doubles()] == [[], []]
