import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.orbax import claims, read
from frostline.porting.readers.weight_file import WeightFile

pytest.importorskip("tensorstore", reason="pip install 'frostline[port]'")
FILES = Path(__file__).parents[1] / "files" / "orbax"
KINDS = ("ocdbt", "ocdbt3", "folders")


@pytest.fixture
def source():
    files = []

    def call(folder, key=None):
        files.append(WeightFile(folder / "_METADATA"))
        assert claims(files[-1])
        return read(files[-1], key)

    yield call
    for file in files:
        file.close()


@pytest.fixture
def copied(tmp_path):
    """A copy of a checkpoint whose tree was changed."""

    def call(kind, change=lambda tree: None):
        shutil.copytree(FILES / kind, tmp_path / kind)
        stated = json.loads((tmp_path / kind / "_METADATA").read_text())
        change(stated)
        (tmp_path / kind / "_METADATA").write_text(json.dumps(stated))
        return tmp_path / kind

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_is_what_orbax_saved(source, kind):
    expected = np.load(FILES / "tree.npz")
    found = source(FILES / kind)
    assert (found.framework, found.order) == ("flax", "numbers")
    assert dict(found.dropped) == {"step": "counter"}
    assert {tensor.name.replace(".", "/") for tensor in found.tensors} == set(expected.files) - {"step"}
    for tensor in found.tensors:
        value = tensor.load()
        raw = value.view(torch.uint16) if value.dtype == torch.bfloat16 else value
        assert raw.numpy().tobytes() == expected[tensor.name.replace(".", "/")].tobytes()
    assert [tensor.leaf for tensor in found.tensors if tensor.unit == "Conv_0"] == ["bias", "kernel"]
    taken = source(FILES / kind, "batch_stats")
    assert {tensor.unit for tensor in taken.tensors} == {"BatchNorm_0"}
    with pytest.raises(PortError, match="checkpoint does not contain the requested entry"):
        source(FILES / kind, "ema")


ENTRY = "('params', 'head', 'bias')"


def renamed(key):
    def change(stated):
        stated["tree_metadata"][ENTRY]["key_metadata"][2]["key"] = key

    return change


@pytest.mark.parametrize(
    "key", ["/etc/passwd", "..", "../../../x", "a/../../b", "", "missing", "a\\b", "a\0b", "kernel"]
)
@pytest.mark.parametrize("kind", ["ocdbt", "folders"])
def test_paths_out_of_the_checkpoint_are_refused(source, copied, kind, key):
    with pytest.raises(PortError, match="damaged"):
        source(copied(kind, renamed(key)))


def test_damaged_trees_are_refused(source, copied, tmp_path):
    changes = (
        lambda stated: stated.update(tree_metadata=[]),
        lambda stated: stated["tree_metadata"].update(x=1),
        lambda stated: stated["tree_metadata"][ENTRY].update(key_metadata=[]),
        lambda stated: stated["tree_metadata"][ENTRY].update(key_metadata=[1]),
    )
    for change in changes:
        shutil.rmtree(tmp_path / "ocdbt", ignore_errors=True)
        with pytest.raises(PortError, match="damaged"):
            source(copied("ocdbt", change))


def test_links_are_refused(source, copied, tmp_path):
    folder = copied("folders")
    chunk = folder / "params.head.bias" / "0"
    chunk.rename(tmp_path / "elsewhere")
    for link in (lambda: chunk.symlink_to(tmp_path / "elsewhere"), lambda: os.link(tmp_path / "elsewhere", chunk),
                 lambda: os.mkfifo(chunk)):  # fmt: skip
        link()
        with pytest.raises(PortError, match="contains a link, a pipe or a device") as caught:
            source(folder)
        assert caught.value.received == "params.head.bias/0"
        chunk.unlink()


def test_chunks_that_are_missing(source, copied, tmp_path):
    folder = copied("folders")
    (folder / "params.head.bias" / "0").unlink()
    with pytest.raises(PortError, match="1 of 1 chunks of 'params.head.bias' are missing"):
        source(folder)
    shutil.rmtree(folder)
    folder = copied("folders", lambda stated: stated.pop("store_array_data_equal_to_fill_value"))
    (folder / "params.head.bias" / "0").unlink()
    found = source(folder)  # versions that left out zeros
    assert found.notes == ("1 chunks are not stored and were read as zeros, which Orbax leaves out.",)
    assert {tensor.name: tensor for tensor in found.tensors}["params.head.bias"].load().tolist() == [0, 0]


def test_a_bomb_of_zeros_is_refused(source, copied):
    folder = copied("folders", lambda stated: stated.pop("store_array_data_equal_to_fill_value"))
    path = folder / "params.head.bias" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shape": [10**12], "chunks": [10**9], "dtype": "<f4"}))
    with pytest.raises(PortError, match="4000000000000 bytes in a checkpoint of"):
        source(folder)


def test_metadata_name_no_other_store(source, copied, tmp_path):
    (tmp_path / "secret").mkdir()
    folder = copied("folders")
    path = folder / "params.head.bias" / ".zarray"
    stated = json.loads(path.read_text()) | {"kvstore": {"driver": "file", "path": str(tmp_path / "secret")}}
    path.write_text(json.dumps(stated))
    tensors = {tensor.name: tensor for tensor in source(folder).tensors}
    try:
        assert tensors["params.head.bias"].load().shape == (2,)  # what lies in its own folder
    except PortError as error:
        assert "damaged" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_file_is_noticed_or_read_as_it_is(source, copied, kind):
    folder = copied(kind)
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name == "_METADATA":
            continue
        whole = path.read_bytes()
        for place in range(0, len(whole), max(1, len(whole) // 6)):
            for data in (whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :], whole[:place]):
                path.write_bytes(data)
                try:
                    for tensor in source(folder).tensors:
                        assert tuple(tensor.load().shape) == tensor.shape
                except PortError as error:
                    assert all(error.parts().values())
        path.write_bytes(whole)


def test_without_tensorstore_the_remedy_is_named(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorstore", None)
    with pytest.raises(PortError, match="requires tensorstore, which is not installed") as caught:
        source(FILES / "ocdbt")
    assert caught.value.do == "pip install 'frostline[port]'"


@pytest.mark.parametrize("data", [b"", b"{}", b'{"weight_map": {}}', b"\x81\xa1a"])
def test_other_files_are_not_claimed(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with WeightFile(tmp_path / "a") as file:
        assert not claims(file)
