import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.porting.readers.formats import open_source
from frostline.porting.readers.saved_model import Architecture, architecture
from frostline.porting.readers.weight_file import WeightFile
from frostline.porting.scaffold.module_text import module_text
from helpers_porting_wire import block, number
from helpers_scaffold import built

FILES = Path(__file__).parents[1] / "files" / "tensorflow"
LAYERS = ["input", "stem", "stem_bn", "depth", "flatten", "inner/squeeze", "inner/re_lu", "dropout", "head"]


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FILES / "saved_tfkeras", tmp_path / "saved")
    return tmp_path / "saved"


def of(folder):
    with WeightFile(folder / "variables" / "variables.index") as file:
        found = architecture(file)
    return found.layers, found.notes


def test_the_metadata_of_keras(folder):
    layers, notes = of(folder)
    names = [layer.name.rstrip("_0123456789") for layer in layers]
    assert names == LAYERS
    assert notes == ("The architecture was read from keras_metadata.pb.",)
    norm = layers[2]
    assert (norm.kind, norm.config["epsilon"], norm.inputs) == ("BatchNormalization", 1e-3, ("stem",))
    assert layers[1].config["kernel_size"] == [3, 3]  # and no wrapped tuple


def model(kind="ReLU", **config):
    layers = [{"class_name": kind, "config": {"name": "a", **config}}]
    return json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": layers}})


def older(text):
    """`saved_model.pb` with metadata in its first object."""
    first = block(1, block(4, block(1, "_tf_keras_sequential") + block(3, text)))
    return number(1, 1) + block(2, block(7, first + block(1, block(4, block(3, "{}")))))


def test_older_versions_have_it_in_the_model(folder):
    (folder / "keras_metadata.pb").unlink()
    (folder / "saved_model.pb").write_bytes(older(model()))
    layers, notes = of(folder)
    assert [(layer.name, layer.kind) for layer in layers] == [("a", "ReLU")]
    assert notes == ("The architecture was read from saved_model.pb.",)


def test_code_is_said_and_not_run(folder):
    (folder / "keras_metadata.pb").write_bytes(block(1, number(2, 0) + block(5, model("Lambda", function="x"))))
    layers, notes = of(folder)
    assert [layer.kind for layer in layers] == ["Lambda"]
    assert any("it was not executed" in note for note in notes)


def test_without_keras_there_is_none(folder):
    (folder / "keras_metadata.pb").unlink()
    assert of(folder) == ((), ())  # that of TensorFlow alone
    (folder / "saved_model.pb").unlink()
    assert of(folder) == ((), ())
    with WeightFile(FILES / "keras3-1.index") as file:
        assert architecture(file) == Architecture()


@pytest.mark.parametrize("content", [b"\xff\xff", block(1, number(2, 0) + block(5, b"{")), block(1, block(2, b"x"))])
def test_damaged_metadata_are_said(folder, content):
    (folder / "keras_metadata.pb").write_bytes(content)
    layers, notes = of(folder)
    assert layers == ()
    assert notes[0].startswith("The architecture in keras_metadata.pb was not read")


def test_links_to_elsewhere_are_not_followed(folder, tmp_path):
    (tmp_path / "else").mkdir()
    (folder / "keras_metadata.pb").rename(tmp_path / "else" / "keras_metadata.pb")
    (folder / "keras_metadata.pb").symlink_to(tmp_path / "else" / "keras_metadata.pb")
    assert of(folder) == (
        (),
        ("The architecture in keras_metadata.pb was not read: the file is a link to another folder.",),
    )


def test_layers_that_are_called_twice_and_several_ends(tmp_path):
    path = FILES / "saved_shared"
    with open_source(path) as (source, _):
        assert source.inputs == ("left", "right")
        assert source.outputs == ("kind", "size")
        assert {"tower/dense", "tower/dense_1", "trunk", "kind", "size"} == {one.unit for one in source.tensors}
        model = built(module_text(source, str(path)), tmp_path).eval()
    fl.port(path, model)
    arrays = {name: torch.tensor(value) for name, value in np.load(FILES / "saved_shared.npz").items()}
    with torch.no_grad():
        kind, size = model(arrays["left"], arrays["right"])
    assert torch.allclose(kind, arrays["kind"], atol=1e-6)
    assert torch.allclose(size, arrays["size"], atol=1e-6)
