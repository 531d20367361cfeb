"""Laws of caches that earlier versions wrote: every row is found, and is right; so are those of a copy."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

import frostline as fl
from helpers_golden import CACHES, D, Doubled, N, fill, values

GOLDEN = Path(__file__).parents[1] / "caching" / "golden"
FOLDERS = sorted(path for path in GOLDEN.glob("*/*") if path.is_dir())
ROWS = torch.stack([values(index) for index in range(N)])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_cache_of_an_earlier_version_is_read_with_every_hit(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "cache")  # a fill marks its use
    name = folder.name
    data = fill(root, name)
    assert (data.figures.computed, data.figures.reused) == (0, N * data.views)
    assert fl.FeatureCache(root).verify() == ()
    found = torch.cat([own[0] for own, _ in data.loader(5)])
    assert torch.equal(torch.cat([target for _, target in data.loader(5)]), torch.arange(N) % 4)
    if name == "views":  # what was drawn is at most 1
        assert bool(((found.float() - ROWS / 2) > -0.2).all() and ((found.float() - ROWS / 2) < 0.7).all())
        return
    plain = ROWS * 2 if CACHES[name][0] is Doubled else (ROWS / 2).bfloat16()
    bound = {"int8": 1 / 254, "float16": 2.0**-11}.get(name, 0.0) * float(plain.abs().max())
    assert float((found - plain).abs().max()) <= bound


def test_there_are_caches_of_several_versions_and_of_every_kind():
    assert len({path.parent for path in FOLDERS}) >= 4
    assert {path.name for path in FOLDERS} == set(CACHES)


@pytest.mark.parametrize("folder", [path for path in FOLDERS if path.name == "offered"], ids=lambda p: p.parent.name)
def test_a_cache_is_read_with_nothing_but_safetensors_and_json(folder):
    (recipe,) = folder.iterdir()
    manifests = [json.loads(path.read_text())["content"] for path in sorted((recipe / "manifests").iterdir())]
    replaced = {old for own in manifests for old, _ in own["replaced"]}
    names = [name for own in manifests for name in own["shards"] if name not in replaced]
    files = [load_file(recipe / "shards" / name) for name in names]
    rows = {bytes(key): row for own in files for key, row in zip(own["sample_keys"], own["low"], strict=True)}
    assert sorted(row.tolist() for row in rows.values()) == (ROWS * 2).tolist()
    assert {len(key) for key in rows} == {16}
    assert len(next(iter(rows.values()))) == D


@pytest.mark.parametrize("way", ["copied", "moved", "without times", "beside another"])
def test_a_cache_that_is_copied_or_moved_keeps_every_hit(way, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    first = fill(old, "offered")
    assert first.figures.computed == N
    if way == "moved":
        old.rename(new)
    else:
        if way == "beside another":  # rsync into a folder that another builder has begun
            fl.FeatureCache(new).fill(Doubled(), Few(), progress=False)
        shutil.copytree(old, new, dirs_exist_ok=True, copy_function=shutil.copy)  # as rsync without -t
    if way == "without times":
        for path in new.rglob("*"):
            os.utime(path, (0, 0))
    data = fill(new, "offered")
    assert (data.figures.computed, data.figures.reused) == (0, N)
    assert torch.equal(torch.cat([own[0] for own, _ in data.loader(5)]), ROWS * 2)


class Few(CACHES["offered"][1]):
    """Three of the samples."""

    def __len__(self):
        return 3
