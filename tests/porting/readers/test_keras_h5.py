import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import keras3, keras_h5
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "keras_h5"
# Names of Keras: recurrent cells and directions are scopes of their own, models around a layer are none.
SCOPES = {"both/forward_lstm/lstm_cell": "both/forward", "both/backward_lstm/lstm_cell": "both/backward"}


def expected(name):
    with np.load(FILES / f"{name}.npz") as found:
        return dict(found)


def tensors(path):
    with WeightFile(path) as file:
        assert keras_h5.claims(file)
        assert not keras3.claims(file)
        source = keras_h5.read(file)
        return {f"{tensor.unit}/{tensor.leaf}": tensor.load() for tensor in source.tensors}, source


def ours(name, scopes):
    for theirs, mine in ({**SCOPES, "gru/gru_cell": "gru"} | scopes).items():
        name = name.replace(theirs, mine) if name.startswith(theirs) else name
    return name


def assert_same(found, wanted, scopes):
    assert {ours(name, scopes) for name in wanted} == set(found)
    for name, values in wanted.items():
        assert torch.equal(found[ours(name, scopes)], torch.from_numpy(values)), name


def test_whole_models_hold_what_keras_sees():
    found, source = tensors(FILES / "network.h5")
    scopes = {"stem": "body/stem", "deep": "body/inner/deep"}
    assert_same(found, expected("network"), scopes)
    assert (source.format, source.framework, source.order) == ("Keras model in HDF5", "keras", "graph")
    assert source.notes == ("The file contains code in 'code' (Lambda); it was not executed.",)


def test_layers_of_keras_2_come_in_an_order_in_which_they_can_be_computed():
    _, source = tensors(FILES / "network.h5")
    layers = {layer.name: layer for layer in source.layers}
    seen = set()
    for layer in source.layers:
        assert set(layer.inputs) <= seen
        seen.add(layer.name)
    assert layers["body/stem"].inputs == ("image",)
    assert layers["body/inner/deep"].inputs == ("body/stem",)
    assert layers["frozen"].inputs == ("body/inner/deep_bn",)
    assert layers["tf.math.multiply"].config["call"] == [{"y": 2.0, "name": None}]
    assert layers["tf.__operators__.add"].inputs == ("tf.math.multiply", "frozen")
    assert layers["attention"].inputs == ("tokens", "tokens")
    assert (layers["shared:1"].unit, layers["shared:1"].inputs) == ("shared", ("shared",))
    units = list(dict.fromkeys(tensor.unit for tensor in source.tensors))
    assert units == [layer.name for layer in source.layers if layer.name in units]


def test_weights_alone_have_the_order_of_their_layers():
    found, source = tensors(FILES / "weights.h5")
    assert_same(found, expected("network"), {"stem": "body/stem", "deep": "body/deep"})
    assert (source.format, source.order, source.layers) == ("Keras weights in HDF5", "graph", ())
    units = list(dict.fromkeys(tensor.unit for tensor in source.tensors))
    assert units == ["body/stem", "body/deep", "body/deep_bn", "frozen", "attention", "both", "each", "gru", "shared"]


def test_variables_of_the_model_itself_and_scopes_around_layers():
    found, source = tensors(FILES / "classes.h5")
    wanted = {name.removeprefix("classes/"): values for name, values in expected("classes").items()}
    assert_same(found, wanted, {"scale": "/scale"})
    assert source.tensors[-1].unit == ""


def test_slots_of_an_optimizer_are_dropped():
    found, source = tensors(FILES / "trained.h5")
    assert_same(found, expected("trained"), {})
    assert set(source.dropped.values()) == {"optimizer slot"}
    assert len(source.dropped) == 3


@pytest.fixture
def edit(tmp_path):
    """A copy of a file that can be written to, and its path."""

    def open_copy(name):
        shutil.copy(FILES / name, tmp_path / "edited.h5")
        return h5py.File(tmp_path / "edited.h5", "r+"), tmp_path / "edited.h5"

    return open_copy


def test_long_lists_of_names_are_spread_over_attributes(edit):
    copy, path = edit("weights.h5")
    with copy:
        names = [name.encode() for name in copy.attrs["layer_names"]]
        del copy.attrs["layer_names"]
        for number, part in enumerate(np.array_split(names, 3)):
            copy.attrs[f"layer_names{number}"] = part
    _, source = tensors(path)
    assert source.tensors[0].unit == "body/stem"
    assert source.tensors[-1].unit == "shared"


def test_names_of_layers_may_have_slashes(edit):
    copy, path = edit("classes.h5")
    with copy:
        copy.create_group("block")
        copy.move("dense", "block/dense")
        copy.attrs["layer_names"] = [b"block/dense", b"dense_1"]
    _, source = tensors(path)
    assert [tensor.unit for tensor in source.tensors][:2] == ["block/dense"] * 2


def test_names_of_keras_1(edit):
    copy, path = edit("classes.h5")
    with copy:
        copy["dense"]["dense_W"] = np.ones((2, 2), np.float32)
        copy["dense"].attrs["weight_names"] = [b"dense_W"]
    _, source = tensors(path)
    assert (source.tensors[0].unit, source.tensors[0].leaf) == ("dense", "W")


def test_arrays_of_no_layer_are_left_out_and_said(edit):
    copy, path = edit("classes.h5")
    with copy:
        copy["elsewhere/kernel:0"] = np.ones(3)
        copy["dense/dense/seed_generator_1/seed_generator_state"] = np.ones(2, np.uint32)
    _, source = tensors(path)
    assert source.dropped["elsewhere/kernel:0"] == "not named by its layer"
    assert source.dropped["dense/dense/seed_generator_1/seed_generator_state"] == "random state"
    assert "layers that are not in the file's list" in source.notes[-1]


def test_convolutions_of_theano_are_refused(edit):
    copy, path = edit("weights.h5")
    with copy:
        copy.attrs["backend"] = b"theano"
    with pytest.raises(PortError, match="written by Keras on Theano, whose convolution kernels are mirrored"):
        tensors(path)


def test_a_configuration_is_plain_data(edit):
    copy, path = edit("network.h5")
    with copy:
        model = json.loads(copy.attrs["model_config"])
        model["config"]["layers"][1]["module"] = "os"
        copy.attrs["model_config"] = json.dumps(model)
    assert "The layer or object 'body' has a custom class (os.Functional)" in tensors(path)[1].notes[0]
    with h5py.File(path, "r+") as copy:
        copy.attrs["model_config"] = '{"a": 1, "a": 2}'
    with pytest.raises(PortError, match="damaged"):
        tensors(path)
    with h5py.File(path, "r+") as copy:
        copy.attrs["model_config"] = "[]"
    assert tensors(path)[1].layers == ()


def test_endless_lists_are_refused(edit, monkeypatch):
    monkeypatch.setattr(keras_h5, "_MAX_ATTRIBUTE_PARTS", 2)
    copy, path = edit("classes.h5")
    with copy:
        del copy.attrs["layer_names"]
        for number in range(3):
            copy.attrs[f"layer_names{number}"] = [b"dense"]
    with pytest.raises(PortError, match="damaged"):
        tensors(path)


def test_other_files_are_not_claimed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as other:
        other["data"] = np.ones(3)
    (tmp_path / "b.h5").write_bytes(b"PK\3\4")
    for name in ("a.h5", "b.h5"):
        with WeightFile(tmp_path / name) as file:
            assert not keras_h5.claims(file)


def test_layers_of_a_class_stand_as_they_were_made():
    _, source = tensors(FILES.parent / "keras_subclassed" / "tf_keras.h5")  # which says nothing about how they run
    assert (source.order, [tensor.unit for tensor in source.tensors]) == (
        "made", ["dense", "dense_1", "dense_2", "dense_3"],
    )  # fmt: skip


def counted(path, *scopes):
    """A file as Keras 2.0 wrote it in a TensorFlow that had layers of the same names before."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["dense"]
        group = file.create_group("dense")
        group.attrs["weight_names"] = [f"{scope}/{leaf}:0" for scope in scopes for leaf in ("kernel", "bias")]
        for scope in scopes:
            group.create_dataset(f"{scope}/kernel:0", data=np.ones((3, 2), "f4"))
            group.create_dataset(f"{scope}/bias:0", data=np.ones(2, "f4"))
    return tensors(path)[0]


def test_a_scope_with_the_number_of_a_later_graph_is_the_layers_own(tmp_path):
    assert set(counted(tmp_path / "a.h5", "dense_1")) == {"dense/kernel", "dense/bias"}
    assert set(counted(tmp_path / "b.h5", "dense_1/deep")) == {"dense/deep/kernel", "dense/deep/bias"}
    inner = set(counted(tmp_path / "c.h5", "dense_1", "dense_2"))
    assert inner == {f"dense/dense_{number}/{leaf}" for number in (1, 2) for leaf in ("kernel", "bias")}


def test_a_layer_of_a_model_inside_keeps_its_name_however_it_looks(tmp_path):
    inner = [
        {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 3]}, "inbound_nodes": []},
        {"class_name": "Dense", "config": {"name": "body_1", "units": 2}, "inbound_nodes": [[["i", 0, 0, {}]]]},
    ]
    body = {"name": "body", "layers": inner, "input_layers": [["i", 0, 0]], "output_layers": [["body_1", 0, 0]]}
    layers = [{"class_name": "Functional", "config": body, "name": "body"}]
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": layers}})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = ["body"]
        own = group.create_group("body")
        own.attrs["weight_names"] = ["body_1/kernel:0"]
        own.create_dataset("body_1/kernel:0", data=np.ones((3, 2), "f4"))
    assert set(tensors(tmp_path / "m.h5")[0]) == {"body/body_1/kernel"}
