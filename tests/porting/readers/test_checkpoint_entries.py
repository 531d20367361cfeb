import argparse
import collections
import pathlib

import numpy as np
import pytest
import torch

from porting.torch_files import Small, check, read, refused, saved


@pytest.mark.parametrize(
    "beside",
    [argparse.Namespace(lr=1), np.float64(0.9), np.arange(3), pathlib.PurePosixPath("a"), collections.OrderedDict(a=1),
     {"a": [np.int64(1), np.bool_(True)]}, torch.ones(3), torch.tensor(0.9), {1, 2}, collections.Counter("ab"), 1 + 2j,
     np.array(["a"]), np.random.default_rng(0).bit_generator.state, np.random.get_state(), torch.device("cpu"),
     collections.defaultdict(list, a=[1]), torch.float32, torch.Size([1]), bytearray(b"abc")],
)  # fmt: skip
def test_what_trainers_keep_beside_the_weights_is_passed_over(tmp_path, beside):
    state = Small().state_dict()
    found, source = read(saved(tmp_path, {"model": state, "args": beside}))
    check(found, source, state)
    assert source.notes == ("The weights were taken from the entry 'model'.",)


def test_a_whole_training_run(tmp_path):
    model = Small()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    held = {"model": state, "optimizer": optimizer.state_dict(), "epoch": 3, "rng": torch.get_rng_state(),
            "model_ema": dict(state)}  # fmt: skip
    found, source = read(saved(tmp_path, held))
    check(found, source, state)
    assert source.dropped["optimizer.state.0.exp_avg"] == "optimizer slot"
    assert source.dropped["model_ema.last.bias"] == "moving average"
    assert source.dropped["rng"] == "random state"
    assert "also contains 'model_ema'" in source.notes[0]
    assert read(saved(tmp_path, held), "model_ema")[1].notes == ()


@pytest.mark.parametrize(
    ("held", "key", "match", "remedy"),
    [([torch.ones(1)], None, "no named tensors", "state_dict"), (torch.ones(1), None, "no named tensors", "state_dict"),
     ({"a": 1}, None, "no named tensors in", "key='NAME'"), ({}, None, "no named tensors in", "key='NAME'"),
     ({"nets": {"g": {"w": torch.ones(1)}}, "n": 3}, None, "no named tensors in", "key='nets.g'"),
     ({"nets": {"g": {"w": torch.ones(1)}}, "n": 3}, "x", "no weights under 'x'", "'nets.g'"),
     ({"w": torch.ones(1)}, "x", "no weights under 'x'", "leave out key="),
     ({"w": torch.ones(1)}, "w", "no weights under 'w'", "leave out key=")],
)  # fmt: skip
def test_where_no_weights_are_the_error_says_where_to_look(tmp_path, held, key, match, remedy):
    assert remedy in refused(saved(tmp_path, held), match, key).do


@pytest.mark.parametrize("key", ["nets.generator", "dis.criminator"])
def test_an_entry_of_an_entry_is_named_with_dots(tmp_path, key):
    state = {"w": torch.ones(1)}
    held = {"nets": {"generator": state, "other": {}}, "dis.criminator": state, "epoch": 3}
    check(*read(saved(tmp_path, held), key), state)


def test_an_entry_that_contains_itself(tmp_path):
    held: dict = {"a": {"w": torch.ones(1)}}
    held["a"]["again"] = held
    held["model"] = held
    refused(saved(tmp_path, held), "contains itself")
    held["model"] = {"w": torch.ones(1)}
    assert list(read(saved(tmp_path, held))[0]) == ["w"]


def test_names_that_occur_twice(tmp_path):
    refused(saved(tmp_path, {"1": torch.ones(1), 1: torch.ones(1)}), "damaged", name="two tensors named '1'")


def test_a_key_may_be_what_the_names_begin_with(tmp_path):
    held = {"model.w": torch.zeros(1), "model.b": torch.zeros(1), "ema.w": torch.ones(1), "ema.b": torch.ones(1)}
    found, source = read(saved(tmp_path, held), "ema")
    assert {name: one.item() for name, one in found.items()} == {"ema.w": 1, "ema.b": 1}
    assert set(source.dropped) == {"model.w", "model.b"}
    assert list(read(saved(tmp_path, held))[0]) == ["model.w", "model.b"]
