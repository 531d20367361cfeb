import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import npz, paddle, sklearn
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "sklearn"
FUNCTIONS = {
    "identity": lambda x: x, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True),
}  # fmt: skip


def read(path):
    with WeightFile(path) as file:
        assert sklearn.claims(file)
        assert not npz.claims(file)
        source = sklearn.read(file)
        return {one.name: one.load().numpy() for one in source.tensors}, source


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_perceptrons(name):
    found, source = read(FILES / f"{name}.skops")
    expected = np.load(FILES / f"{name}.npz")
    assert found.keys() == set(expected) - {"inputs", "outputs"}
    assert all(np.array_equal(found[one], expected[one]) and found[one].dtype == expected[one].dtype for one in found)
    assert (source.framework, source.order) == ("sklearn", "graph")
    assert [(one.unit, one.leaf) for one in source.tensors][:2] == [("layers/0", "coefs"), ("layers/0", "intercepts")]
    out = expected["inputs"]
    for index, layer in enumerate(source.layers):
        out = FUNCTIONS[layer.config["activation"]](out @ found[f"coefs_.{index}"] + found[f"intercepts_.{index}"])
    assert np.allclose(out.reshape(expected["outputs"].shape), expected["outputs"], rtol=1e-5, atol=1e-6)


def changed(tmp_path, change, name="regressor"):
    """The file with another schema."""
    with zipfile.ZipFile(FILES / f"{name}.skops") as archive:
        members = {one: archive.read(one) for one in archive.namelist()}
    schema = json.loads(members["schema.json"])
    schema = change(schema) or schema
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(tmp_path / "a.skops", "w") as archive:
        for one, raw in members.items():
            archive.writestr(zipfile.ZipInfo(one), raw)
    return tmp_path / "a.skops"


def test_other_models_are_refused(tmp_path):
    with pytest.raises(PortError, match="multilayer perceptrons are read") as caught:
        read(FILES / "pipeline.skops")
    assert caught.value.received == "a sklearn.pipeline.Pipeline"
    assert "the last step" in caught.value.do
    others = ({"__module__": "os", "__class__": "system"}, {"__module__": "os"}, [1])
    for other in others:
        with pytest.raises(PortError, match="multilayer perceptrons are read"):
            read(
                changed(tmp_path, lambda schema, other=other: {**schema, **other} if isinstance(other, dict) else other)
            )


def inner(name, value):
    def change(schema):
        schema["content"]["content"][name] = value

    return change


ARRAY = {"__class__": "ndarray", "__module__": "numpy", "type": "numpy", "file": "nothing.npy"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("coefs_", None), ("coefs_", {"content": 1}), ("coefs_", {"content": []}), ("coefs_", {"content": [1]}),
     ("coefs_", {"content": [{**ARRAY, "__class__": "list"}]}), ("coefs_", {"content": [{**ARRAY, "type": "json"}]}),
     ("coefs_", {"content": [ARRAY]}), ("coefs_", {"content": [{**ARRAY, "file": "../schema.json"}]}),
     ("coefs_", {"content": [{**ARRAY, "file": "schema.json"}]}), ("intercepts_", {"content": []}),
     ("activation", {"content": '"os.system"'}), ("activation", {"content": 1}), ("out_activation_", {})],
)  # fmt: skip
def test_schemas_that_are_no_perceptron(tmp_path, name, value):
    with pytest.raises(PortError, match="damaged"):
        read(changed(tmp_path, inner(name, value)))


def test_layers_that_do_not_follow_each_other(tmp_path):
    def turned(schema):
        for name in ("coefs_", "intercepts_"):
            schema["content"]["content"][name]["content"].reverse()

    with pytest.raises(PortError, match="damaged") as caught:
        read(changed(tmp_path, turned))
    assert "do not match" in caught.value.received


def test_pickles_of_models_are_refused(tmp_path):
    from sklearn.neural_network import MLPRegressor

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(MLPRegressor()))
    with WeightFile(tmp_path / "a.pkl") as file:
        assert not sklearn.claims(file)
        with pytest.raises(PortError, match="contains more than data") as caught:
            paddle.read(file)
    assert "MLPRegressor" in caught.value.received
