import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from frostline.core.errors import PortError
from frostline.porting.readers import formats
from frostline.porting.readers.file_digests import digests_in_background
from frostline.porting.readers.formats import READERS, open_source
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files"
KNOWN = [path for path in sorted(FILES.rglob("*")) if path.is_file() and path.suffix in
         (".keras", ".h5", ".pdparams", ".onnx", ".msgpack", ".pt", ".safetensors", ".params")]  # fmt: skip


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: str(path.relative_to(FILES)))
def test_a_format_is_told_by_its_content(path, tmp_path):
    renamed = tmp_path / "weights.bin"
    renamed.write_bytes(path.read_bytes())
    with WeightFile(path) as file, WeightFile(renamed) as other:
        first = [reader for reader in READERS if reader.claims(file)]
        assert first
        assert first[0] is next(reader for reader in READERS if reader.claims(other))


def test_arrays_are_read_while_the_file_is_open(tmp_path):
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with open_source(tmp_path / "a.safetensors") as (source, file):
        assert source.tensors[0].load().tolist() == [[1, 1], [1, 1]]
        assert file.size == (tmp_path / "a.safetensors").stat().st_size


def test_the_file_that_stands_for_a_folder_is_named(tmp_path):
    inner = tmp_path / "run" / "best"
    inner.mkdir(parents=True)
    save_file({"a.weight": torch.ones(2, 2)}, inner / "model.safetensors")
    with open_source(tmp_path) as (source, _):
        assert source.notes[0] == "Of the folder, run/best/model.safetensors was read."
    with open_source(inner / "model.safetensors") as (source, _):
        assert not any("folder" in note for note in source.notes)


PARTS = {
    "caffe/net.caffemodel": ["net.prototxt"],
    "darknet/net.weights": ["net.cfg"],
    "keras3/shards.weights.json": [f"shards_0000{at}.weights.h5" for at in range(3)],
    "mxnet/net-0003.params": ["net-symbol.json"],
    "onnx/below.onnx": ["parts/below.data"],
    "onnx/beside.onnx": ["beside.data"],
    "paddle/older.pdiparams": ["older.pdiparams.info", "older.pdmodel"],
    "plain/model.safetensors.index.json": [f"model-0000{at}-of-00002.safetensors" for at in (1, 2)],
    "tensorflow/shards.index": [f"shards.data-0000{at}-of-00002" for at in (0, 1)],
    "tensorflow/saved_tfkeras/saved_model.pb": ["../keras_metadata.pb", "variables.data-00000-of-00001"],
    "tfjs/layers/model.json": [f"group1-shard{at}of3.bin" for at in (1, 2, 3)],
    "plain/half.safetensors": [],
}


@pytest.mark.parametrize("name", PARTS)
def test_every_other_file_that_is_read_has_a_digest(name):
    with open_source(FILES / name) as (source, file):
        for tensor in source.tensors:
            tensor.load()
        with digests_in_background(file) as digests:
            _, found = digests()
        assert list(found) == PARTS[name]
        for part, digest in found.items():
            assert digest == hashlib.sha256((file.path.parent / part).read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["ocdbt", "ocdbt3", "folders"])
def test_every_file_of_an_orbax_checkpoint_has_a_digest(name):
    folder = FILES / "orbax" / name
    with open_source(folder) as (_, file):
        wanted = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert file.parts.keys() == wanted - {"_METADATA"}


def test_a_part_that_changes_meanwhile_is_noticed(tmp_path):
    for path in (FILES / "onnx").glob("beside.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with open_source(tmp_path / "beside.onnx") as (_, file):
        with (tmp_path / "beside.data").open("ab") as part:
            part.write(b"more")
        with (
            digests_in_background(file) as found,
            pytest.raises(PortError, match="changed while it was read") as caught,
        ):
            found()
        assert caught.value.where == str(tmp_path / "beside.data")


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path):
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(PortError, match="changed while it was read"), open_source(tmp_path / "a.safetensors"):
        (tmp_path / "a.safetensors").write_bytes(b"other")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", bytes(100), b"<html>", b"\xff" * 64]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(PortError), open_source(tmp_path / "a.h5"):
        pass


def test_a_file_without_arrays_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", a=np.ones(1))

    class Empty:
        HAS_ENTRIES = False

        @staticmethod
        def claims(file):
            return True

        @staticmethod
        def read(file):
            return formats.npz.read(file).__class__("npz", "numpy", ())

    monkeypatch.setattr(formats, "READERS", (Empty,))
    with pytest.raises(PortError, match="The file contains no weights"), open_source(tmp_path / "a.npz"):
        pass


def test_settings_in_front_of_arrays_are_known_as_the_way_of_equinox(tmp_path):
    with (tmp_path / "a.eqx").open("wb") as file:
        file.write(b'{"width": 8}\n')
        np.save(file, np.ones(3))
    with pytest.raises(PortError, match="as Equinox writes them") as caught, open_source(tmp_path / "a.eqx"):
        pass
    assert "numpy.savez" in caught.value.do
