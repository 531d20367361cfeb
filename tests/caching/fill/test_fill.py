import signal
from collections import UserDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.fill.fill import Filling
from frostline.caching.store.manifest import read_newest
from frostline.caching.store.opening import open_folder
from frostline.caching.store.shards import Shards
from helpers_caching import D, Items, Masked, MaskedPart, N, Offering, Part, dataset, fill, shards
from helpers_processes import run_script


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
from frostline.caching.store import shard_writer
from frostline.core import io, new_files
shard_writer.SHARD_BYTES = 16 * 4 * t.D
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
real, calls = new_files.sync_folder, 0
def killing(folder):
    global calls
    real(folder)
    calls += 1
    if calls == {at}:
        os.kill(os.getpid(), signal.{name})
new_files.sync_folder = killing
t.fill({root!r}, batch_size=8)
"""


@pytest.mark.parametrize(("at", "name"), [(1, "SIGKILL"), (2, "SIGKILL"), (3, "SIGKILL"), (4, "SIGINT")])
def test_a_killed_fill_keeps_its_finished_shards(tmp_path, at, name):
    script = KILLED.format(tests=str(Path(__file__).parents[2]), at=at, root=str(tmp_path), name=name)
    done = run_script(script, tmp_path)
    assert done.returncode in (-signal.SIGKILL, -signal.SIGINT, 1), done.stderr
    data = fill(tmp_path, batch_size=8)
    assert data.figures.reused == {1: 0, 2: 16, 3: 16, 4: 32}[at]
    assert torch.equal(torch.cat([f[0] for f, _ in data.loader(40)]), dataset().tensors[0] * 2)
    assert not list(tmp_path.rglob("*.part"))


def test_two_builders_at_once_lose_nothing(tmp_path):
    tests, root = str(Path(__file__).parents[2]), str(tmp_path)
    script = f"import sys; sys.path.insert(0, {tests!r}); import helpers_caching as t; t.fill({root!r}, batch_size=4)"
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run_script, script, tmp_path) for _ in range(2)]
    assert [run.result().returncode for run in runs] == [0, 0], runs[0].result().stderr
    data = fill(tmp_path)
    assert data.figures.computed == 0
    assert fl.FeatureCache(tmp_path).verify() == ()


def told(root, data):
    """How many samples a fill says are done, call by call."""
    calls = []
    shards_ = Shards(root / "recipe" / "shards")
    filling = Filling(open_folder(root / "recipe", shards_, Part().frontier), Part(), data, 8, 0)
    filling.run(filling.plan(), calls.append)
    return calls


@pytest.mark.parametrize("kind", [dataset, Offering])
def test_the_progress_reaches_the_number_of_samples_cold_and_warm(tmp_path, kind):
    assert sum(told(tmp_path, kind(N))) == N
    again = told(tmp_path, kind(N))
    assert sum(again) == N
    if kind is Offering:
        assert again == [N]  # all of them at once: none is read for its target
    assert sum(told(tmp_path, kind(N + 5))) == N + 5


def test_a_progress_bar_goes_to_standard_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    fl.FeatureCache(tmp_path).fill(Part(), dataset())
    out, err = capsys.readouterr()
    assert (out, "Frozen pass" in err) == ("", True)


class Boxes(Offering):
    """Targets are mappings; what `target` gives may have fewer names, or others, than that of the item."""

    told = ("box", "area")

    def _named(self, index, names):
        return {name: torch.tensor([float(index), len(name)]) for name in names}

    def __getitem__(self, index):
        return super().__getitem__(index)[0], self._named(index, ("box", "area"))

    def target(self, index):
        return self._named(index, self.told)


@pytest.mark.parametrize(("names", "is_same"), [(("box", "area"), True), (("box",), False), (("box", "size"), False)])
def test_targets_with_other_names_than_the_items_have_are_noticed(tmp_path, names, is_same):
    fill(tmp_path, data=Boxes())
    again = Boxes()
    again.told = names
    data = fill(tmp_path, data=again)
    assert {name: value.tolist() for name, value in data[7][1].items()} == {"box": [7.0, 3.0], "area": [7.0, 4.0]}
    assert any("does not give the targets of the items" in note for note in data.notes) is not is_same


def test_what_is_missing_of_known_samples_is_said(tmp_path):
    fill(tmp_path, MaskedPart(), Masked(0, 30))
    folder = next(tmp_path.iterdir())
    for path in (folder / "shards").iterdir():
        if path.name in read_newest(folder / "manifests")[1].snapshots:
            path.unlink()
    data = fill(tmp_path, MaskedPart(), Masked(0, 30))
    assert "30 known samples were read for their inputs" in data.notes
    assert data.figures.computed == 0


def test_a_target_that_is_no_number_is_not_taken_for_another_one(tmp_path):
    class Told(Items):
        targets = [1.0] * N

        def __getitem__(self, index):
            return torch.full((D,), float(index)), self.targets[index]

        def __len__(self):
            return N

        fingerprint = "plain"

        def sample_key(self, index):
            return str(index).encode()

        def target(self, index):
            return self.targets[index]

    told = Told()
    fill(tmp_path, data=told)
    told.targets = [float("nan")] * N
    assert fill(tmp_path, data=told).notes == ()
    for target in ("cat", object()):
        told.targets = [target] * N
        with pytest.raises(fl.DataError, match="target"):
            fill(tmp_path, data=told)


def test_where_standard_error_is_a_file_there_is_no_bar(tmp_path, capsys):
    fl.FeatureCache(tmp_path).fill(Part(), dataset())
    assert capsys.readouterr() == ("", "")
