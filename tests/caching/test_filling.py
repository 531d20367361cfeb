import signal
import subprocess
import sys
from collections import UserDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from helpers_caching import D, Items, N, Part, dataset, fill, shards


def test_growth_computes_what_is_missing(tmp_path):
    fill(tmp_path)
    data = fill(tmp_path, data=dataset(N + 5))
    assert (data.figures.computed, data.figures.reused) == (5, N)
    assert torch.equal(data[N + 4][0][0], dataset(N + 5)[N + 4][0] * 2)


def test_relabelling_reordering_and_duplicates_compute_nothing(tmp_path):
    fill(tmp_path)
    inputs, targets = dataset().tensors
    order = [5, 5, 0, 39]
    data = fill(tmp_path, data=TensorDataset(inputs[order], targets[order] + 1))
    assert data.figures.computed == 0
    assert [int(data[at][1]) for at in range(4)] == [int(targets[i]) + 1 for i in order]
    assert torch.equal(data[1][0][0], inputs[5] * 2)


def test_duplicates_are_computed_once_and_not_called_reused(tmp_path):
    inputs, targets = dataset().tensors
    data = fill(tmp_path, data=TensorDataset(torch.cat([inputs, inputs[:3]]), torch.cat([targets, targets[:3]])))
    assert (data.figures.samples, data.figures.computed, data.figures.reused) == (N + 3, N, 0)
    assert data.figures.bytes == max(path.stat().st_size for path in shards(tmp_path))


def test_mappings_of_any_kind_are_inputs(tmp_path):
    part = Part()
    part.extract = lambda x: (x["x"] * 2,)
    items = [(UserDict({"x": inputs}), target) for inputs, target in dataset()]
    assert torch.equal(fill(tmp_path, part, items)[3][0][0], dataset()[3][0] * 2)


def test_inputs_that_go_straight_to_the_head_are_kept_with_the_snapshot(tmp_path):
    model = nn.ModuleDict({"low": nn.Linear(D, D), "high": nn.Linear(D, 2)})
    model.forward = lambda a, mask: model["high"](model["low"](a)) * mask
    fl.freeze(model, modules=[model["low"]])
    items = Items([{"a": torch.randn(D), "mask": torch.rand(2), "label": i % 2} for i in range(9)])
    split = fl.split(model, {"a": torch.randn(4, D), "mask": torch.rand(4, 2)})
    data = fill(tmp_path, split, items)
    features, label = data[4]
    assert torch.equal(features[1], items[4]["mask"])
    assert label == 0
    assert torch.allclose(split.head(features[0][None], features[1][None])[0], model(items[4]["a"], items[4]["mask"]))


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, {tests!r})
import helpers_caching as t
from frostline.caching import writing
from frostline.core import io
writing.SHARD_BYTES = 16 * 4 * t.D
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
real, calls = io._sync_folder, 0
def killing(folder):
    global calls
    real(folder)
    calls += 1
    if calls == {at}:
        os.kill(os.getpid(), signal.{name})
io._sync_folder = killing
t.fill({root!r}, batch_size=8)
"""


@pytest.mark.parametrize(("at", "name"), [(1, "SIGKILL"), (2, "SIGKILL"), (3, "SIGKILL"), (4, "SIGINT")])
def test_a_killed_fill_keeps_its_finished_shards(tmp_path, at, name):
    script = KILLED.format(tests=str(Path(__file__).parents[1]), at=at, root=str(tmp_path), name=name)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (-signal.SIGKILL, -signal.SIGINT, 1), done.stderr
    data = fill(tmp_path, batch_size=8)
    assert data.figures.reused == {1: 0, 2: 16, 3: 16, 4: 32}[at]
    assert torch.equal(torch.cat([f[0] for f, _ in data.loader(40)]), dataset().tensors[0] * 2)
    assert not list(tmp_path.rglob("*.part"))


def test_two_builders_at_once_lose_nothing(tmp_path):
    tests, root = str(Path(__file__).parents[1]), str(tmp_path)
    script = f"import sys; sys.path.insert(0, {tests!r}); import helpers_caching as t; t.fill({root!r}, batch_size=4)"
    runs = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    data = fill(tmp_path)
    assert data.figures.computed == 0
    assert fl.FeatureCache(tmp_path).verify() == ()
