import argparse
import collections
import gzip
import os
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import frostline as fl
from frostline.transfer.weight_files import read_weights

WEIGHTS = {"0.weight": torch.ones(2, 2), "0.bias": torch.zeros(2)}


def read(tmp_path, held, key=None):
    notes: list[str] = []
    torch.save(held, tmp_path / "w.pt")
    return read_weights(tmp_path / "w.pt", key, notes), notes


@pytest.mark.parametrize(
    "beside",
    [argparse.Namespace(lr=1), np.float64(0.9), np.arange(3), pathlib.PurePosixPath("a"), collections.OrderedDict(a=1),
     {"a": [np.int64(1), np.bool_(True)]}, torch.ones(3), torch.tensor(0.9)],
)  # fmt: skip
def test_what_trainers_keep_beside_the_weights_is_passed_over(tmp_path, beside):
    found, notes = read(tmp_path, {"model": WEIGHTS, "args": beside})
    assert list(found) == list(WEIGHTS)
    assert notes == ["weights taken from 'model'"]


def test_arrays_are_weights_too(tmp_path):
    found, _ = read(tmp_path, {name: tensor.numpy() for name, tensor in WEIGHTS.items()})
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


class Code:
    def __reduce__(self):
        return (os.mkdir, ("frostline-must-not-make-this",))


def test_code_is_not_run_and_its_name_is_told(tmp_path):
    with pytest.raises(fl.DataError, match="Cannot read weights") as error:
        read(tmp_path, {"model": WEIGHTS, "code": Code()})
    assert "mkdir" in error.value.received
    assert not pathlib.Path("frostline-must-not-make-this").exists()
    assert not any(one is argparse.Namespace for one in torch.serialization.get_safe_globals())


@pytest.mark.parametrize("key", ["nets.generator", "dis.criminator"])
def test_an_entry_of_an_entry_is_named_with_dots(tmp_path, key):
    held = {"nets": {"generator": WEIGHTS, "other": {}}, "dis.criminator": WEIGHTS, "epoch": 3}
    assert list(read(tmp_path, held, key)[0]) == list(WEIGHTS)


def test_where_no_tensors_are_the_entries_that_hold_some_are_named_and_work(tmp_path):
    held = {"nets": {"generator": WEIGHTS}, "epoch": 3}
    for key in (None, "nets"):
        with pytest.raises(fl.DataError, match="no named tensors") as error:
            read(tmp_path, held, key)
        assert "key='nets.generator'" in error.value.do
    with pytest.raises(fl.DataError, match="no weights under 'x'") as error:
        read(tmp_path, held, "x")
    assert "'nets.generator'" in error.value.do
    with pytest.raises(fl.DataError, match="no weights under 'x'") as error:
        read(tmp_path, WEIGHTS, "x")
    assert "leave out key=" in error.value.do
    assert list(read(tmp_path, held, "nets.generator")[0]) == list(WEIGHTS)


def test_other_entries_with_weights_are_told(tmp_path):
    _, notes = read(tmp_path, {"teacher": WEIGHTS, "student": WEIGHTS, "a": {"b": WEIGHTS}, "optimizer": {}})
    assert notes == ["weights taken from 'teacher'; the file also holds 'student', 'a.b' (key=...)"]


def test_entries_with_weights_are_found_behind_others(tmp_path):
    with pytest.raises(fl.DataError, match="no named tensors") as error:
        read(tmp_path, {"epoch": 3, "best": 0.5, "nets": {"lr": 0.1, "generator": WEIGHTS}})
    assert "key='nets.generator'" in error.value.do


def test_a_file_that_cannot_be_read_is_told_how_to_be_made(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"nothing")
    with pytest.raises(fl.DataError, match="Cannot read weights") as error:
        read_weights(tmp_path / "w.pt", None, [])
    assert error.value.do.startswith("pass a safetensors file, or a torch file of tensors only")


def test_a_folder_is_told_to_be_a_file(tmp_path):
    with pytest.raises(fl.DataError, match="Cannot read weights") as error:
        read_weights(tmp_path, None, [])
    assert "model.safetensors" in error.value.do


def test_an_index_of_shards_is_no_file_of_weights(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(fl.DataError, match="Cannot read weights") as error:
        read_weights(tmp_path / "model.safetensors.index.json", None, [])
    assert "one of the files that it names" in error.value.do


def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path):
    torch.save(WEIGHTS, tmp_path / "torch.safetensors")
    save_file(WEIGHTS, tmp_path / "safe.pt")
    torch.save(WEIGHTS, tmp_path / "older.bin", _use_new_zipfile_serialization=False)
    for name in ("torch.safetensors", "safe.pt", "older.bin"):
        assert read_weights(tmp_path / name, None, []).keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ("content", "told", "remedy"),
    [(gzip.compress(b"weights"), "This file does not hold weights: it is compressed by gzip", "gunzip"),
     (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS", "git lfs pull"),
     (b"\n <!DOCTYPE html><html>", "web page", "download"), (b"hi", "neither a safetensors file", "torch.save"),
     (b"", "neither a safetensors file", "torch.save"), (b"\x80\x02hi there", "damaged", "torch.save"),
     (b"PK\x03\x04 and no more", "weights", "torch.save")],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".pt", ".bin"])
def test_a_file_that_is_something_else_is_told_by_what_it_is(tmp_path, content, told, remedy, ending):
    path = tmp_path / f"w{ending}"
    path.write_bytes(content)
    with pytest.raises(fl.DataError) as error:
        read_weights(path, None, [])
    assert told in str(error.value)
    assert remedy in error.value.do
    assert "running its code" not in str(error.value)


def test_a_file_that_is_not_there_is_told_as_such_whatever_its_name():
    for name in ("gone.json", "gone.pt", "gone.safetensors"):
        with pytest.raises(fl.DataError, match="Cannot read weights") as error:
            read_weights(pathlib.Path("/nowhere") / name, None, [])
        assert "No such file" in error.value.received
