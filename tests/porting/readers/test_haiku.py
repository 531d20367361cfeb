from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.porting.readers import haiku, npz
from frostline.porting.readers.contract import SourceTensor
from frostline.porting.readers.jax_tree import source
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "haiku"


def tensors(*names):
    return [SourceTensor(name, (2, 2), "float32", *name.rsplit("/", 1), lambda: torch.ones(2, 2)) for name in names]


@pytest.mark.parametrize(
    "name", ["convolutions", "transposed", "lstm", "gru", "attention", "words", "own_names", "rnn"]
)
def test_files_of_haiku_are_known_by_their_names(name):
    path = FILES / f"{name}.npz"
    with WeightFile(path) as file:
        found = npz.read(file)
        stored = np.load(path)
        assert found.framework == "haiku"
        assert haiku.NOTE in found.notes
        assert {one.name for one in found.tensors} | set(found.dropped) == set(stored)
        for tensor in found.tensors:
            assert np.array_equal(tensor.load().numpy(), stored[tensor.name])


@pytest.mark.parametrize(
    "names", [["mine/w", "mine/~/mean_ema/average"], ["mine/w", "own/scale", "own/offset"], ["vanilla_rnn/linear/w"]]
)
def test_names_of_the_users_own_are_known_by_their_leaves(names):
    assert haiku.taken(tensors(*names)) is not None


def test_a_state_is_one_of_haiku_where_it_has_averages():
    assert haiku.has_averages(["state/bn/~/mean_ema/average"], "state/")
    assert not haiku.has_averages(["state/opt/mu", "params/bn/~/mean_ema/average"], "state/")


def test_averages_of_a_state_come_to_their_norm_and_are_no_counters():
    with WeightFile(FILES / "own_names.npz") as file:
        found = npz.read(file)
    places = {one.name: (one.unit, one.leaf) for one in found.tensors}
    assert places["state/bn1/~/mean_ema/average"] == ("bn1/~/mean_ema", "average")
    assert found.dropped["state/bn1/~/mean_ema/counter"] == "counter"


def test_what_of_the_state_is_no_weight_is_dropped():
    kept, dropped = haiku.taken(
        tensors("linear/w", "norm/~/mean_ema/average", "norm/~/mean_ema/hidden", "norm/~/mean_ema/counter")
    )
    assert [one.name for one in kept] == ["linear/w", "norm/~/mean_ema/average"]
    assert dropped == {"norm/~/mean_ema/hidden": "moving average", "norm/~/mean_ema/counter": "counter"}


@pytest.mark.parametrize(
    "names", [["linear/kernel"], ["linear/w", "other/kernel"], ["mine/w", "mine/b"], ["linear/weight"]]
)
def test_other_names_are_not_taken_for_those_of_haiku(names):
    assert haiku.taken(tensors(*names)) is None


def test_trees_of_parameters_and_state_are_known_too():
    names = ("params/batch_norm/scale", "params/conv2_d/w", "state/batch_norm/~/var_ema/average")
    arrays = {tuple(one.name.split("/")): one for one in tensors(*names)}
    found = source("Flax MessagePack", arrays, None)
    assert found.framework == "haiku"
    assert {(one.unit, one.leaf) for one in found.tensors} == {
        ("batch_norm", "scale"), ("conv2_d", "w"), ("batch_norm/~/var_ema", "average"),
    }  # fmt: skip
