import json
import os

import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import torch_shards
from frostline.porting.readers.weight_file import WeightFile
from porting.torch_files import Small


def sharded(folder, *, where=None, **how):
    """The state of a model in two shards and their index."""
    torch.manual_seed(0)
    state = Small().state_dict()
    placed = {name: f"model-{index % 2}.bin" for index, name in enumerate(state)}
    for shard in sorted(set(placed.values())):
        torch.save({name: one for name, one in state.items() if placed[name] == shard}, folder / shard, **how)
    (folder / "index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed if where is None else where}))
    return folder / "index.json", state, placed


def read(path):
    with WeightFile(path) as file:
        assert torch_shards.claims(file)
        source = torch_shards.read(file)
        return {one.name: one.load() for one in source.tensors}, source


@pytest.mark.parametrize("is_newer", [True, False])
def test_shards_are_read_together(tmp_path, is_newer):
    path, state, _ = sharded(tmp_path, _use_new_zipfile_serialization=is_newer)
    found, source = read(path)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert (source.framework, source.tensors[0].unit, source.tensors[0].leaf) == ("torch", "first/0", "weight")


def test_shards_are_closed_with_the_source(tmp_path):
    path, _, _ = sharded(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_shard_that_is_written_to_is_noticed(tmp_path):
    path, _, _ = sharded(tmp_path)
    with WeightFile(path) as file:
        source = torch_shards.read(file)
        with (tmp_path / "model-0.bin").open("ab") as shard:
            shard.write(b"more")
        with pytest.raises(PortError, match="changed while it was read"):
            source.tensors[0].load()


def refused(path, match):
    with pytest.raises(PortError, match=match):
        read(path)


def test_an_index_that_is_not_that_of_its_shards(tmp_path):
    _, _, placed = sharded(tmp_path)
    first = next(iter(placed))
    others = {name: shard for name, shard in placed.items() if name != first}
    for where in (others, {**placed, first: "model-1.bin"}, {**placed, "other": "model-1.bin"}):
        refused(sharded(tmp_path, where=where)[0], "damaged")
    refused(sharded(tmp_path, where={**placed, first: "../model-0.bin"})[0], "outside of its folder")
    refused(sharded(tmp_path, where={**placed, first: "gone.bin"})[0], "Cannot open")


@pytest.mark.parametrize(
    "where", [[".bin"], {"a": 1, "b": ".bin"}, {str(index): f"{index}.bin" for index in range(1001)}]
)
def test_an_index_that_is_none(tmp_path, where):
    refused(sharded(tmp_path, where=where)[0], "damaged")


def test_a_shard_that_is_no_file_of_pytorch(tmp_path):
    path, _, _ = sharded(tmp_path)
    (tmp_path / "model-0.bin").write_bytes(b"nothing")
    refused(path, "shard of the index is not a PyTorch file")


def test_other_files_are_not_claimed(tmp_path):
    for content in ("", "{}", '{"weight_map": {"a": "a.safetensors"}}', '["weight_map", ".bin"]'):
        (tmp_path / "a.json").write_text(content)
        with WeightFile(tmp_path / "a.json") as file:
            assert not torch_shards.claims(file)
