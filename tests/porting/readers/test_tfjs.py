import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers.tfjs import claims, read
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "tfjs"


@pytest.fixture
def source():
    files = []

    def call(folder):
        files.append(WeightFile(folder / "model.json"))
        assert claims(files[-1])
        return read(files[-1])

    yield call
    for file in files:
        file.close()


@pytest.mark.parametrize("name", ["layers", "quantised"])
def test_every_weight_is_what_tensorflow_js_decodes(source, name):
    expected = json.loads((FILES / name / "expected.json").read_text())
    found = source(FILES / name)
    assert found.framework == "keras"
    assert {tensor.name for tensor in found.tensors} == set(expected)
    for tensor in found.tensors:
        value = np.array(expected[tensor.name]["values"]).astype(tensor.load().numpy().dtype)
        assert tensor.load().numpy().tobytes() == value.tobytes(), tensor.name
        assert list(tensor.shape) == expected[tensor.name]["shape"]


def test_a_scale_that_is_a_large_integer(changed):
    found = changed(weight(0, quantization={"dtype": "uint8", "min": 0, "scale": 10**30}), "quantised")
    assert found.tensors[0].load()[0, 1] == pytest.approx(1e30)


def test_layers_and_their_order(source):
    found = source(FILES / "layers")
    assert found.order == "graph"
    assert list(dict.fromkeys(tensor.unit for tensor in found.tensors)) == ["conv", "norm", "depth", "head"]
    assert [t.leaf for t in found.tensors if t.unit == "norm"] == ["gamma", "beta", "moving_mean", "moving_variance"]
    layers = {layer.name: layer for layer in found.layers}
    assert layers["norm"].config["epsilon"] == 0.002
    assert layers["conv"].config["padding"] == "same"
    assert layers["depth"].inputs == ("norm",)


def test_quantised_weights_are_said(source):
    found = source(FILES / "quantised")
    assert found.order == "file"
    assert found.notes[0].startswith("4 weights are quantised")
    assert {tensor.name: tensor.dtype for tensor in found.tensors}["half/kernel"] == "float32"
    assert {tensor.name: tensor.dtype for tensor in found.tensors}["steps"] == "int32"


@pytest.fixture
def changed(tmp_path, source):
    """Reads a copy of the layers' model after a change of its JSON or its folder."""

    def call(change, name="layers"):
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(FILES / name, folder)
        stated = json.loads((folder / "model.json").read_text())
        change(stated, folder)
        (folder / "model.json").write_text(json.dumps(stated))
        found = source(folder)
        for tensor in found.tensors:
            tensor.load()
        return found

    return call


def weight(place, **values):
    return lambda stated, _: stated["weightsManifest"][0]["weights"][place].update(values)


def paths(*names):
    return lambda stated, _: stated["weightsManifest"][0].update(paths=list(names))


SHARDS = [f"group1-shard{k}of3.bin" for k in (1, 2, 3)]
DAMAGED = {
    "no list": lambda stated, _: stated.update(weightsManifest=1),
    "a group that is none": lambda stated, _: stated.update(weightsManifest=[1]),
    "a group without files": lambda stated, _: stated["weightsManifest"][0].pop("paths"),
    "a shard too few": paths(*SHARDS[:2]),
    "a shard twice": paths(*SHARDS, SHARDS[0]),
    "a shape that needs more": weight(0, shape=[3, 3, 2, 5]),
    "a shape of 2^124": weight(0, shape=[2**62, 2**62]),
    "a negative axis": weight(0, shape=[-3, -3, 2, 4]),
    "an axis that is true": weight(0, shape=[True, 72]),
    "a name that is a number": weight(0, name=1),
    "a name twice": weight(0, name="head/kernel"),
    "a name with a control character": weight(0, name="a\0"),
    "a quantisation that is a list": weight(0, quantization=[]),
    "a layer that is its own input": lambda stated, _: stated.update(
        modelTopology={"class_name": "Model", "config": {"layers": [
            {"name": "a", "class_name": "ReLU", "config": {}, "inbound_nodes": [[["a", 0, 0, {}]]]}]}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_models_are_refused(changed, name):
    with pytest.raises(PortError, match="damaged"):
        changed(DAMAGED[name])


@pytest.mark.parametrize(
    "values",
    [{"dtype": "string"}, {"dtype": "O"}, {"dtype": []}, {"quantization": {"dtype": {}}},
     {"quantization": {"dtype": "uint8", "min": "x", "scale": 1}},
     {"quantization": {"dtype": "uint8", "min": 0, "scale": float("nan")}}, {"quantization": {"dtype": "int4"}},
     {"quantization": {"dtype": "float16"}, "dtype": "int32"}, {"quantization": {"dtype": "uint8", "min": 10**400}}],
    ids=str,
)  # fmt: skip
def test_kinds_of_weights_that_are_not_read(changed, values):
    with pytest.raises(PortError, match="weights of an unsupported type"):
        changed(weight(0, **values))


def test_files_elsewhere_are_refused(changed, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(101))
    for name in ("../secret", str(tmp_path / "secret"), "..", "", "a/b", 7):
        with pytest.raises(PortError, match="outside of its folder"):
            changed(paths(name, *SHARDS[1:]))

    def linked(stated, folder):
        (folder / SHARDS[0]).unlink()
        (folder / SHARDS[0]).symlink_to(tmp_path / "secret")

    with pytest.raises(PortError, match="outside of its folder"):
        changed(linked)


def test_a_file_that_changes_is_noticed(source, tmp_path):
    shutil.copytree(FILES / "layers", tmp_path / "model")
    found = source(tmp_path / "model")
    (tmp_path / "model" / SHARDS[2]).write_bytes(bytes(1536))
    with pytest.raises(PortError, match="changed while it was read"):
        found.tensors[-1].load()


def test_graph_models_have_weights_and_no_layers(changed):
    def change(stated, _):
        stated.update(format="graph-model", modelTopology={"node": [{"name": "x", "op": "Placeholder"}]})

    found = changed(change)
    assert (found.framework, found.layers, found.order) == ("tensorflow", (), "file")
    assert found.notes[0].startswith("The file contains a graph without layers")


def test_a_manifest_alone(source, tmp_path):
    shutil.copytree(FILES / "quantised", tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text())["weightsManifest"]))
    found = source(tmp_path / "model")
    assert (found.framework, len(found.tensors)) == ("tensorflow", 7)


def test_code_in_the_topology_is_said(changed):
    def change(stated, _):
        config = {"name": "f", "function": ["x", None, None], "arguments": {}}
        stated["modelTopology"]["config"]["layers"].append({"class_name": "Lambda", "config": config})

    assert any("it was not executed" in note for note in changed(change).notes)


def test_what_is_loaded_is_the_tensors_own(source):
    tensor = source(FILES / "layers").tensors[0]
    tensor.load().zero_()
    assert torch.count_nonzero(tensor.load()) > 0


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"weight_map": {}}', b'[{"weightsManifest": 1}]', b'[1, "weights"]', b"\x89HDF"]
)
def test_other_files_are_not_claimed(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    with WeightFile(tmp_path / "a") as file:
        assert not claims(file)
