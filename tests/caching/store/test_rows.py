from contextlib import ExitStack

import numpy as np
import torch

from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.rows import Rows
from frostline.caching.store.shards import Shards


def rows_of(folder, *parts: np.ndarray) -> Rows:
    """An index over one shard per array of keys."""
    (folder / "shards").mkdir()
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
    shard, row = rows.locate(np.array([0, 4, 5, 6, 12]))
    assert (shard.tolist(), row.tolist()) == ([0, 0, 1, 2, 2], [0, 4, 0, 0, 6])


def test_unknown_keys_are_minus_one(tmp_path):
    rows = rows_of(tmp_path, keys((5, 1), (9, 2)))
    assert rows.find(keys((4, 1), (5, 1), (7, 1), (10, 0))).tolist() == [-1, 0, -1, -1]


def test_keys_that_share_their_first_half_are_told_apart(tmp_path):
    rows = rows_of(tmp_path, keys((5, 3), (1, 0)), keys((5, 1), (5, 2), (9, 0)))
    assert rows.find(keys((5, 1), (5, 2), (5, 3), (5, 4), (9, 1))).tolist() == [2, 3, 0, -1, -1]


def test_an_empty_cache_knows_nothing(tmp_path):
    assert rows_of(tmp_path).find(keys((1, 2), (3, 4))).tolist() == [-1, -1]
