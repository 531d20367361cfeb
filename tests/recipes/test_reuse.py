import gzip
import json
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import frostline as fl

FILES = pathlib.Path(__file__).parents[1] / "porting" / "files"


def net():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def check(path, **options):
    """The weights of a network come out of a file that holds them."""
    target = net()
    summary = fl.reuse(path, target, **options)
    assert set(summary.copied) == set(target.state_dict())
    return target, summary


def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path):
    source = net()
    torch.save(source.state_dict(), tmp_path / "torch.safetensors")
    save_file(source.state_dict(), tmp_path / "safe.pt")
    torch.save(source.state_dict(), tmp_path / "older.bin", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "arrays.dat.npz", **{name: one.numpy() for name, one in source.state_dict().items()})
    for name in ("torch.safetensors", "safe.pt", "older.bin", "arrays.dat.npz"):
        target, _ = check(tmp_path / name)
        assert all(torch.equal(own, source.state_dict()[name]) for name, own in target.state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_a_script_module_is_a_file_of_weights_too(tmp_path):
    torch.jit.script(net()).save(tmp_path / "a.pt")
    assert "neither read nor run" in check(tmp_path / "a.pt")[1].notes[0]


def test_of_several_sets_of_weights_one_is_chosen(tmp_path):
    source, average = net(), net()
    torch.save({"model": source.state_dict(), "model_ema": average.state_dict()}, tmp_path / "a.pt")
    assert torch.equal(check(tmp_path / "a.pt")[0][0].weight, source[0].weight)
    assert torch.equal(check(tmp_path / "a.pt", key="model_ema")[0][0].weight, average[0].weight)
    flat = {f"{start}.{name}": one for start, own in (("model", source), ("ema", average))
            for name, one in own.state_dict().items()}  # fmt: skip
    torch.save(flat, tmp_path / "a.pt")
    assert torch.equal(check(tmp_path / "a.pt")[0][0].weight, source[0].weight)
    assert torch.equal(check(tmp_path / "a.pt", key="ema")[0][0].weight, average[0].weight)


def test_shards_are_read_together(tmp_path):
    state = net().state_dict()
    for index, names in enumerate((list(state)[:2], list(state)[2:])):
        save_file({name: state[name] for name in names}, tmp_path / f"{index}.safetensors")
    where = {name: f"{index // 2}.safetensors" for index, name in enumerate(state)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    check(tmp_path / "model.safetensors.index.json")
    check(tmp_path)


def test_weights_of_another_framework_are_for_port():
    with pytest.raises(fl.PortError, match="weights of another framework") as error:
        fl.reuse(FILES / "paddle" / "protocol4.pdparams", net())
    assert error.value.received == "PaddlePaddle weights"
    assert error.value.do.startswith("frostline.port(")


def test_nothing_is_changed_where_no_weight_fits(tmp_path):
    torch.save({"other.weight": torch.ones(3)}, tmp_path / "a.pt")
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused") as error:
        fl.reuse(tmp_path / "a.pt", net())
    assert error.value.where == str(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "told", "remedy"),
    [(gzip.compress(b"weights", mtime=0), "contains no weights: it is compressed by gzip", "gunzip"),
     (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer", "git lfs pull"),
     (b"\n <!DOCTYPE html><html>", "it is a web page", "download"),
     (b"hi", "format of this file is unknown", "as its framework"),
     (b"", "format of this file is unknown", "as its framework"), (b"\x80\x02hi there", "is damaged", "again"),
     (b"PK\x03\x04 and no more", "is damaged", "again")],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".pt", ".bin"])
def test_a_file_that_is_something_else_is_told_by_what_it_is(tmp_path, content, told, remedy, ending):
    (tmp_path / f"w{ending}").write_bytes(content)
    with pytest.raises(fl.PortError, match=told) as error:
        fl.reuse(tmp_path / f"w{ending}", net())
    assert remedy in error.value.do


def test_a_file_that_is_not_there_is_told_as_such_whatever_its_name():
    for name in ("gone.json", "gone.pt", "gone.safetensors"):
        with pytest.raises(fl.PortError, match="Cannot open the file of weights") as error:
            fl.reuse(pathlib.Path("/nowhere") / name, net())
        assert "No such file" in error.value.received


def test_a_state_dict_in_memory_is_a_source_as_the_module_itself_is():
    source, target = net(), net()
    state = {f"module.{name}": tensor + 1 for name, tensor in source.state_dict().items()}
    summary = fl.reuse({**state, "module.0._extra_state": {"version": 1}}, target)
    assert set(summary.copied) == set(source.state_dict())
    assert all(torch.equal(tensor, state[f"module.{name}"]) for name, tensor in target.state_dict().items())
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused") as error:
        fl.reuse({"other": torch.ones(3)}, target)
    assert error.value.where == "the state dict"


def test_a_checkpoint_in_memory_is_told_which_part_to_pass():
    for other in ({"state_dict": net().state_dict(), "epoch": 3}, {}, {1: torch.ones(2)}, [net()]):
        with pytest.raises(fl.DataError, match="reuse takes a model") as error:
            fl.reuse(other, net())
        assert "checkpoint['state_dict']" in error.value.do
