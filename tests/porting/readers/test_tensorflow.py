from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.tensorflow import claims, read
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import entry, number, table

FILES = Path(__file__).parents[1] / "files" / "tensorflow"


@pytest.fixture
def source():
    files = []

    def call(stem, key=None):
        files.append(WeightFile(FILES / f"{stem}.index"))
        assert claims(files[-1])
        return read(files[-1], key)

    yield call
    for file in files:
        file.close()


KERAS = {
    "stem": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "depth": {"depthwise_kernel": (2, 2, 4, 1), "bias": (4,)},
    "stem_bn": {"gamma": (4,), "beta": (4,), "moving_mean": (4,), "moving_variance": (4,)},
    "squeeze": {"kernel": (36, 3), "bias": (3,)}, "head": {"kernel": (3, 2), "bias": (2,)},
}  # fmt: skip


def units(found):
    whole = {}
    for tensor in found.tensors:
        assert tuple(tensor.load().shape) == tensor.shape
        whole.setdefault(tensor.unit, {})[tensor.leaf] = tensor.shape
    return whole


def test_layers_of_keras_2(source):
    found = source("tfkeras")
    assert found.framework == "keras"
    assert units(found) == KERAS
    assert list(units(found)) == ["stem", "stem_bn", "depth", "squeeze", "head"]  # by the numbers of the objects
    assert (found.order, found.layers) == ("layers", ())


def test_a_saved_model_has_its_architecture(source):
    found = source("saved_tfkeras/variables/variables")
    assert units(found) == {"inner/squeeze" if name == "squeeze" else name: leaves for name, leaves in KERAS.items()}
    assert found.order == "graph"
    assert {layer.name for layer in found.layers} >= set(units(found))
    assert found.notes[-1] == "The architecture was read from keras_metadata.pb."


@pytest.mark.parametrize("stem", ["keras3-1", "saved_keras3/variables/variables"])
def test_layers_of_keras_3(source, stem):
    found = source(stem)
    expected = {"inner/squeeze" if name == "squeeze" else name: leaves for name, leaves in KERAS.items()}
    expected["depth"] = {"kernel": (2, 2, 4, 1), "bias": (4,)}  # Keras 3 gave it another name
    assert found.framework == "keras"
    assert units(found) == expected
    assert list(units(found)) == ["stem", "stem_bn", "depth", "inner/squeeze", "head"]


@pytest.mark.parametrize("stem", ["recurrent2", "recurrent3"])
def test_cells_halves_and_attention_belong_to_their_layer(source, stem):
    cell = {"kernel": (4, 12), "recurrent_kernel": (3, 12), "bias": (12,)}
    half = {"kernel": (3, 9), "recurrent_kernel": (3, 9), "bias": (2, 9)}
    product = {"kernel": (6, 2, 3), "bias": (2, 3)}
    attention = {f"{part}/{leaf}": shape for part in ("query", "key", "value") for leaf, shape in product.items()}
    assert units(source(stem)) == {
        "rec": cell, "query": {"kernel": (6, 2), "bias": (2,)},
        "both": {f"{side}/{leaf}": shape for side in ("forward", "backward") for leaf, shape in half.items()},
        "att": attention | {"attention_output/kernel": (2, 3, 6), "attention_output/bias": (6,)},
    }  # fmt: skip


def test_what_keras_3_stores_besides(source):
    trained = source("keras3-1")
    assert set(trained.dropped.values()) == {"optimizer slot", "counter"}
    exported = source("saved_keras3/variables/variables")
    assert exported.dropped["variables/10"] == "random state"
    copies = {role for name, role in exported.dropped.items() if name.startswith("_all_variables/")}
    assert copies == {f"copy of {tensor.name}" for tensor in exported.tensors}
    assert "stored twice" in exported.notes[1]


def test_modules_have_the_names_of_their_objects(source):
    found = source("modules")
    assert found.framework == "tensorflow"
    assert [tensor.unit for tensor in found.tensors[::2]] == [f"net/cells/{k}" for k in range(11)]
    assert {tensor.leaf for tensor in found.tensors} == {"w", "b"}


def test_names_of_tensorflow_1(source):
    found = source("names.ckpt")
    assert found.framework == "tensorflow"
    assert units(found) == {
        "fc1": {"weights": (5, 7), "biases": (7,)}, "fc1/BatchNorm": {"moving_mean": (7,)},
        "table": {"embeddings": (7, 4)},
    }  # fmt: skip
    assert {
        found.dropped[name] for name in ("fc1/weights/Adam", "fc1/weights/Adam_1", "table/embeddings/Momentum")
    } == {"optimizer slot"}
    assert found.dropped["beta1_power"] == found.dropped["global_step"] == "counter"
    assert found.dropped["fc1/weights/ExponentialMovingAverage"] == "moving average"
    assert "moving averages of 2 variables" in found.notes[1]


def test_moving_averages_are_taken_on_request(source):
    expected = np.load(FILES / "names.npz")
    found = source("names.ckpt", "ExponentialMovingAverage")
    taken = {tensor.name: tensor for tensor in found.tensors}["fc1/weights/ExponentialMovingAverage"]
    assert (taken.unit, taken.leaf) == ("fc1", "weights")
    assert taken.load().numpy().tobytes() == expected["fc1/weights/ExponentialMovingAverage"].tobytes()
    assert taken.load().numpy().tobytes() != expected["fc1/weights"].tobytes()
    assert found.dropped["fc1/weights"] == "replaced by its moving average"
    assert "2 variables were taken from their moving averages; 2 have no average" in found.notes[1]
    for stem, key in (("names.ckpt", "ema"), ("shards", "ExponentialMovingAverage")):
        with pytest.raises(PortError, match="does not contain the requested entry"):
            source(stem, key)


def test_texts_are_no_weights(source):
    found = source("dtypes")
    assert found.dropped == {"texts": "text"}
    assert len(found.tensors) == 11


def test_a_prefix_without_a_name(tmp_path):
    for suffix in (".index", ".data-00000-of-00002", ".data-00001-of-00002"):
        (tmp_path / suffix).write_bytes((FILES / f"shards{suffix}").read_bytes())
    with WeightFile(tmp_path / ".index") as file:
        assert units(read(file)) == {f"layer{k}": {"bias": (2,), "kernel": (3, 2)} for k in range(2)}


def test_hostile_names_and_objects_are_refused(tmp_path):
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(8))
    for name in (b"a\0b", b"a\xe2\x80\xaeb", b"a" * 5_000):
        (tmp_path / "a.index").write_bytes(table([(b"", number(1, 1)), (name, entry(bytes(8), (2,)))]))
        with WeightFile(tmp_path / "a.index") as file, pytest.raises(PortError, match="damaged"):
            read(file)
    graph = b"\x01" + bytes(4) + b"\xff"  # the length of the text is not checked
    (tmp_path / "a.data-00000-of-00001").write_bytes(graph)
    rows = [(b"", number(1, 1)), (b"_CHECKPOINTABLE_OBJECT_GRAPH", entry(graph, (), dtype=7))]
    (tmp_path / "a.index").write_bytes(table(rows))
    with WeightFile(tmp_path / "a.index") as file, pytest.raises(PortError, match="damaged"):
        read(file)


def test_other_files_are_not_claimed(tmp_path):
    (tmp_path / "a").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "b").write_bytes(b"")
    for name in ("a", "b"):
        with WeightFile(tmp_path / name) as file:
            assert not claims(file)
