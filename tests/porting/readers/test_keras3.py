import io
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import keras3
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "keras3"


def expected(name):
    with np.load(FILES / f"{name}.npz") as found:
        return dict(found)


def tensors(path):
    """What the reader finds, by `unit/leaf`, and the source."""
    with WeightFile(path) as file:
        assert keras3.claims(file)
        source = keras3.read(file)
        found = {f"{tensor.unit}/{tensor.leaf}": tensor.load() for tensor in source.tensors}
        assert len(found) == len(source.tensors)
        for tensor in source.tensors:
            read = found[f"{tensor.unit}/{tensor.leaf}"]
            assert (tuple(read.shape), str(read.dtype)) == (tensor.shape, f"torch.{tensor.dtype}")
    return found, source


def assert_same(found, wanted, rename=lambda name: name):
    assert {rename(name) for name in wanted} == set(found)
    for name, values in wanted.items():
        read = found[rename(name)]
        assert torch.equal(read.float() if read.dtype == torch.bfloat16 else read, torch.from_numpy(values)), name


def in_words_of_keras_2(name):
    """Keras 3 calls the kernel of a depthwise convolution `kernel`, and lays it out in another way than others."""
    return name.replace("depthwise/kernel", "depthwise/depthwise_kernel")


def weights_in(name, folder):
    """The `.weights.h5` in an archive, which is what `save_weights` writes."""
    path = folder / f"{name}.weights.h5"
    path.write_bytes(zipfile.ZipFile(FILES / f"{name}.keras").read("model.weights.h5"))
    return path


@pytest.mark.parametrize("name", ["images", "texts"])
def test_archives_hold_what_keras_sees(name):
    found, source = tensors(FILES / f"{name}.keras")
    assert_same(found, expected(name), in_words_of_keras_2)
    assert (source.format, source.framework, source.order) == ("Keras 3 archive", "keras", "graph")


def test_layers_come_in_an_order_in_which_they_can_be_computed():
    _, source = tensors(FILES / "images.keras")
    seen = set()
    for layer in source.layers:
        assert set(layer.inputs) <= seen
        seen.add(layer.name)
    layers = {layer.name: layer for layer in source.layers}
    assert layers["image"].kind == "InputLayer"
    assert layers["body/stem"].inputs == ("scale",)
    assert layers["block_0"].inputs == ("body/stem_bn",)
    assert layers["add"].inputs == ("depthwise", "multiply")
    assert layers["multiply"].config["call"] == {"args": [None, 0.5], "kwargs": {}}
    assert layers["block_1"].config["use_bias"] is False
    assert (layers["shared:1"].unit, layers["shared:1"].inputs, layers["shared"].unit) == ("shared", ("dropout",), "")
    ranks = [list(layers).index(tensor.unit) for tensor in source.tensors]
    assert ranks == sorted(ranks)


def test_weights_alone_have_names_and_the_order_of_lists_of_layers(tmp_path):
    found, source = tensors(weights_in("texts", tmp_path))
    assert_same(found, expected("texts"))
    assert (source.format, source.order, source.layers) == ("Keras 3 weights", "layers", ())


def test_attributes_of_a_class_stand_in_no_order():
    with WeightFile(FILES.parent / "keras_subclassed" / "keras3.weights.h5") as file:
        source = keras3.read(file)
    assert [tensor.name.removesuffix("/vars/0") for tensor in source.tensors] == [
        "first", "last", "layers/dense", "layers/dense_1",
    ]  # fmt: skip
    assert source.order == "made"


def test_three_vectors_of_a_batch_normalization_are_ambiguous_without_a_configuration(tmp_path):
    with WeightFile(weights_in("images", tmp_path)) as file:
        source = keras3.read(file)
        leaves = [tensor.leaf for tensor in source.tensors if tensor.unit == "body/stem_bn"]
    assert leaves == ["", "", ""]
    assert any("'body/stem_bn' are stored by number" in note for note in source.notes)


def test_layers_whose_class_is_not_in_the_file_are_told_by_shapes_and_said():
    with WeightFile(FILES.parent / "networks" / "keras" / "subclassed" / "model.weights.h5") as file:
        source = keras3.read(file)
    assert {tensor.leaf for tensor in source.tensors if tensor.unit == "step_0/norm"} == {
        "gamma", "beta", "moving_mean", "moving_variance",
    }  # fmt: skip
    assert (
        "The file does not state the class of 'head': its variables were identified by shape, as kernel, bias."
        in source.notes
    )


def test_shards_lie_beside_their_list(tmp_path):
    found, source = tensors(FILES / "shards.weights.json")
    assert_same(found, expected("shards"))
    assert [tensor.unit for tensor in source.tensors[::2]] == [f"step{number}" for number in range(12)]
    assert source.format == "Keras 3 weights in shards"
    for path in FILES.glob("shards*"):
        shutil.copy(path, tmp_path)
    with WeightFile(tmp_path / "shards.weights.json") as file:
        source = keras3.read(file)
        (tmp_path / "shards_00001.weights.h5").write_bytes((tmp_path / "shards_00000.weights.h5").read_bytes())
        with pytest.raises(PortError, match="changed while it was read"):
            for tensor in source.tensors:
                tensor.load()


def test_shards_can_lie_in_an_archive(tmp_path):
    config = {"class_name": "Sequential", "config": {"layers": []}}
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.write(FILES / "shards.weights.json", "model.weights.json")
        for path in FILES.glob("shards_*"):
            archive.write(path, path.name)
    assert_same(tensors(tmp_path / "a.keras")[0], expected("shards"))


def test_models_of_classes_have_the_names_of_their_attributes():
    with WeightFile(FILES / "block.weights.h5") as file:
        source = keras3.read(file)
    named = [(tensor.unit, tensor.leaf, tensor.shape) for tensor in source.tensors]
    assert ("first", "kernel", (2, 3)) in named
    assert ("dense_1", "kernel", (3, 3)) in named
    assert ("batch_normalization", "moving_variance", (3,)) in named
    assert named.count(("batch_normalization_1", "", (3,))) == 3
    assert ("", "", (3,)) in named


def test_bfloat16_and_slots_of_an_optimizer():
    found, source = tensors(FILES / "half.weights.h5")
    assert_same(found, expected("half"))
    assert found["half/kernel"].dtype == torch.bfloat16
    assert len(source.dropped) == 6
    assert set(source.dropped.values()) == {"optimizer slot"}


def test_the_list_of_layers_had_another_name_once(tmp_path):
    path = weights_in("texts", tmp_path)
    with h5py.File(path, "r+") as weights:
        weights.move("layers", "_layer_checkpoint_dependencies")
        del weights["vars"].attrs["name"]
    config = zipfile.ZipFile(FILES / "texts.keras").read("config.json")
    found, source = tensors(archive_of(tmp_path / "old.keras", config, path.read_bytes()))
    assert_same(found, expected("texts"))
    assert source.order == "graph"
    assert_same(tensors(path)[0], expected("texts"))


def test_archives_of_keras_2_attach_no_names():
    found, source = tensors(FILES.parent / "keras_h5" / "numbers.keras")
    with np.load(FILES.parent / "keras_h5" / "numbers.npz") as wanted:
        cells = {"gru_cell": 0, "lstm_cell": 1, "gru_cell_1": 2}
        scopes = {f"stack/stacked_rnn_cells/{name}/": f"stack/{number}/" for name, number in cells.items()}

        def ours(name):
            return next(
                (name.replace(theirs, mine) for theirs, mine in scopes.items() if name.startswith(theirs)), name
            )

        assert_same(found, dict(wanted), ours)
    assert source.order == "graph"
    assert [tensor.unit for tensor in source.tensors][8::3] == ["stack/0", "stack/1", "stack/2", "head"]
    assert set(source.dropped.values()) == {"optimizer slot", "counter"}


def archive_of(path, config, weights=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        archive.writestr("model.weights.h5", weights or (FILES / "half.weights.h5").read_bytes())
    return path


def test_code_in_a_configuration_is_named_and_left_alone(tmp_path):
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAA=="}}
    layers = [
        {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "run", "function": code}},
        {"module": "os", "class_name": "system", "config": {"name": "shell"}},
        {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"name": "wrapped", "module": "gANj"}},
    ]
    path = archive_of(tmp_path / "a.keras", {"class_name": "Sequential", "config": {"name": "s", "layers": layers}})
    with WeightFile(path) as file:
        notes = keras3.read(file).notes
    assert "The file contains code in 'run' (Lambda); it was not executed." in notes
    assert "The layer or object 'shell' has a custom class (os.system), which was not imported." in notes
    assert any("'wrapped'" in note for note in notes)


def node(name, index=0):
    tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None, 2], "keras_history": [name, index, 0]}}
    return [{"args": [tensor], "kwargs": {}}]


@pytest.mark.parametrize(
    ("config", "received"),
    [
        ('{"class_name": "A", "class_name": "B"}', "occurs twice"),
        ("[" * 100_000, "levels deep"),
        ('{"a": ', "invalid JSON"),
        (b'{"a": "\xff"}', "invalid JSON"),
        ("[]", "not an object"),
    ],
)
def test_wrong_json_is_refused(tmp_path, config, received):
    with (
        WeightFile(archive_of(tmp_path / "a.keras", config)) as file,
        pytest.raises(PortError, match="damaged") as caught,
    ):
        keras3.read(file)
    assert received in caught.value.received


@pytest.mark.parametrize(
    ("index", "received"), [(0, "a cycle of layers"), (1, "outputs of a layer that does not exist")]
)
def test_graphs_that_cannot_be_computed_are_refused(tmp_path, index, received):
    layers = [
        {"class_name": "Dense", "config": {"name": "a"}, "inbound_nodes": node("b", index)},
        {"class_name": "Dense", "config": {"name": "b"}, "inbound_nodes": node("a")},
    ]
    config = {"class_name": "Functional", "config": {"name": "m", "layers": layers}}
    with WeightFile(archive_of(tmp_path / "a.keras", config)) as file, pytest.raises(PortError) as caught:
        keras3.read(file)
    assert received in caught.value.received


def test_lists_of_shards_name_files_beside_them(tmp_path):
    for value in ("../half.weights.h5", "/etc/passwd.weights.h5"):
        (tmp_path / "a.weights.json").write_text(json.dumps({"weight_map": {"/vars": value}}))
        with WeightFile(tmp_path / "a.weights.json") as file:
            assert keras3.claims(file)
            with pytest.raises(PortError, match="outside of its folder"):
                keras3.read(file)
    (tmp_path / "a.weights.json").write_text(json.dumps({"weight_map": {"/vars": 3, "x": ".weights.h5"}}))
    with WeightFile(tmp_path / "a.weights.json") as file, pytest.raises(PortError, match="damaged"):
        keras3.read(file)


def test_other_files_are_not_claimed(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    for name, content in (
        ("zip", buffer.getvalue()),
        ("json", b'{"weight_map": {"a": "a.safetensors"}}'),
        ("none", b""),
    ):
        (tmp_path / name).write_bytes(content)
        with WeightFile(tmp_path / name) as file:
            assert not keras3.claims(file)
