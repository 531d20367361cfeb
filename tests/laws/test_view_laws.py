"""Laws of seeded views: a view is the same in any process, order and number of workers, stored or not."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

import frostline as fl
from frostline.caching import Views
from helpers_caching import Part, fill, shards
from helpers_processes import run_script
from helpers_views import DRAWS, Keyed, N, Random
from helpers_vision import import_torchvision

KINDS = {"indexed": Random, "keyed": Keyed}
ROOT = Path(__file__).parents[1]


def rows(data, view):
    data.set_epoch(view)
    return torch.stack([features[0] for features, _ in (data[at] for at in range(len(data)))])


def test_views_are_the_same_in_another_process():
    script = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from frostline.caching import Views
from helpers_views import DRAWS, Keyed, Random
found = {{}}
for kind in (Keyed, Random):
    for name in DRAWS:
        views = Views(kind(name), 2)
        found[f"{{kind.__name__}} {{name}}"] = [views[at][0].tolist() for at in (len(views) - 1, 3, 0)]
print(json.dumps(found))
"""
    theirs = json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    for kind in KINDS.values():
        for name in DRAWS:
            views = Views(kind(name), 2)
            ours = [views[at][0].tolist() for at in (0, 3, len(views) - 1)]
            assert theirs[f"{kind.__name__} {name}"] == ours[::-1], (kind, name)


@settings(max_examples=12)
@given(
    name=st.sampled_from(sorted(DRAWS)), kind=st.sampled_from(sorted(KINDS)), count=st.integers(1, 4),
    order=st.permutations(range(N)), more=st.integers(0, 2), workers=st.sampled_from([0, 0, 2]),
)  # fmt: skip
def test_a_row_is_that_of_its_sample_and_view(tmp_path_factory, name, kind, count, order, more, workers):
    root = tmp_path_factory.mktemp("views")
    make = KINDS[kind]
    expected = Views(make(name), count + more)
    for views in (count, count + more):
        data = fill(root, Part(), make(name), views=views, num_workers=workers)
        for view in range(views):
            found = rows(data, view)
            for at in order:
                assert torch.equal(found[at], 2 * expected[view * N + at][0])
    if more:
        assert data.figures.computed == more * N
    assert fill(root, Part(), make(name), views=count).figures.computed == 0


@settings(max_examples=20)
@given(count=st.integers(1, 6), epochs=st.integers(1, 20), start=st.integers(0, 40))
def test_no_view_comes_again_before_all_were_seen(tmp_path_factory, count, epochs, start):
    root = tmp_path_factory.getbasetemp() / f"walk{count}"
    data = fill(root, Part(), Keyed(), views=count)
    loader = data.loader(4, shuffle=True, seed=3)
    loader.epoch = start
    stored = [{tuple(row) for row in rows(data, view).tolist()} for view in range(count)]
    seen = []
    for _ in range(epochs):
        own = {tuple(row) for features, _ in loader for row in features[0].tolist()}
        seen.append(stored.index(own))
    assert all(len(set(seen[at : at + count])) == min(count, len(seen) - at) for at in range(len(seen)))
    assert all((following - one) % count == 1 % count for one, following in pairwise(seen))


class Photos(Keyed):
    """Pictures under transforms of torchvision; keys are those of `Keyed`."""

    def __init__(self):
        super().__init__()
        v2 = importlib.import_module("torchvision.transforms.v2")
        pixels = np.random.default_rng(0).integers(0, 256, (N, 12, 12, 3), dtype=np.uint8)
        self.pictures = [Image.fromarray(own) for own in pixels]
        self.transform = v2.Compose([
            v2.RandomResizedCrop(6), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4), v2.RandomRotation(20),
            v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
        ])  # fmt: skip

    def __getitem__(self, index):
        return self.transform(self.pictures[index]).mean(dim=(0, 1)), index % 4


def test_transforms_of_torchvision_are_seeded(tmp_path):
    import_torchvision()
    expected, again = Views(Photos(), 3), Views(Photos(), 3)
    items = [expected[at][0] for at in range(3 * N)]
    assert all(torch.equal(again[at][0], items[at]) for at in reversed(range(3 * N)))
    assert len({tuple(item.tolist()) for item in items}) == 3 * N
    for workers in (0, 2):
        data = fill(tmp_path / str(workers), data=Photos(), views=3, num_workers=workers)
        assert torch.equal(rows(data, 2), 2 * torch.stack(items[2 * N :]))


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from frostline.caching.store import shard_writer
from frostline.core import io, new_files
shard_writer._SHARD_SECONDS = 0.0
published, real = [0], new_files.sync_folder
def killing(folder):
    real(folder)
    published[0] += "shards" in str(folder)
    if published[0] == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
new_files.sync_folder = killing
from helpers_caching import fill
from helpers_views import {kind}
fill({root!r}, data={kind}(), views=3, batch_size=4)
"""


@pytest.mark.parametrize("kind", ["Random", "Keyed"])
@pytest.mark.parametrize("at", [2, 5])
def test_a_killed_fill_of_views_goes_on(tmp_path, kind, at):
    script = KILLED.format(tests=str(ROOT), root=str(tmp_path), at=at, kind=kind)
    done = run_script(script, tmp_path)
    assert done.returncode == -9, done.stderr
    make = {"Random": Random, "Keyed": Keyed}[kind]
    data = fill(tmp_path, data=make(), views=3, batch_size=4)
    assert 0 < data.figures.reused < 3 * N
    assert data.figures.computed + data.figures.reused == 3 * N
    views = Views(make(), 3)
    for view in range(3):
        assert torch.equal(rows(data, view), 2 * torch.stack([views[view * N + at][0] for at in range(N)]))


def test_stored_views_are_verified_merged_and_purged(tmp_path):
    cache = fl.FeatureCache(tmp_path)
    for views in (1, 2, 3):
        data = fill(tmp_path, data=Keyed(), views=views)
    (entry,) = cache.entries()
    assert (entry.rows, entry.views, cache.verify()) == (3 * N, 3, ())
    assert sum(len(load_file(path)["sample_keys"]) for path in shards(tmp_path)) == 3 * N
    before = [rows(data, view) for view in range(3)]
    damaged = shards(tmp_path)[-1]
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(bytes(content))
    assert cache.verify() != ()
    again = fill(tmp_path, data=Keyed(), views=3)
    assert any("set aside" in note for note in again.notes)
    assert [rows(again, view).tolist() for view in range(3)] == [own.tolist() for own in before]
    assert cache.purge() > 0
    assert cache.entries() == ()
