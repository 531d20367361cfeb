import pytest

from frostline.porting.readers.keras_places import file_order, is_counted, place_without_config, places


def layer(kind, name, module="keras.layers", **config):
    return {"module": module, "class_name": kind, "config": {"name": name, **config}}


def test_paths_are_those_that_keras_writes():
    inner = {
        "class_name": "Sequential",
        "config": {"name": "body", "layers": [layer("Dense", "a"), layer("Dense", "b")]},
    }
    cells = [layer("GRUCell", "x"), layer("LSTMCell", "y"), layer("GRUCell", "z")]
    found = places(
        {
            "class_name": "Functional",
            "config": {
                "layers": [
                    layer("Dense", "first"),
                    layer("Add", "sum", module="keras.src.ops.numpy"),
                    inner,
                    layer("Dense", "second"),
                    layer("Bidirectional", "both", layer=layer("LSTM", "half")),
                    layer("MultiHeadAttention", "attention"),
                    layer("RNN", "stack", cell=layer("StackedRNNCells", "cells", cells=cells)),
                    layer("TimeDistributed", "each", layer=layer("Dense", "inside")),
                ]
            },
        }
    )
    named = {path: (place.unit, place.kind, place.prefix) for path, place in found.items()}
    assert named["layers/dense_1"] == ("second", "dense", "")
    assert named["layers/sequential/layers/dense_1"] == ("body/b", "dense", "")
    assert named["layers/bidirectional/backward_layer/cell"] == ("both", "lstm", "backward")
    assert named["layers/multi_head_attention/output_dense"] == ("attention", "einsum_dense", "attention_output")
    assert named["layers/rnn/cell/cells/gru_cell_1"] == ("stack/2", "gru_cell", "")
    assert named["layers/time_distributed/layer"] == ("each", "dense", "")
    assert "layers/add" not in named


@pytest.mark.parametrize(
    ("path", "names", "wanted"),
    [
        ("layers/conv2d_3", {}, ("conv2d_3", "conv2d", "")),
        ("layers/conv2d_3", {"layers/conv2d_3": "stem"}, ("stem", "conv2d", "")),
        ("_layer_checkpoint_dependencies/dense", {}, ("dense", "dense", "")),
        ("layers/lstm/cell", {}, ("lstm", "lstm", "")),
        ("encoder/recurrent/cell", {"encoder/recurrent": "gru_2"}, ("encoder/recurrent", "gru", "")),
        ("layers/bidirectional/forward_layer/cell", {}, ("bidirectional", "lstm", "forward")),
        (
            "layers/bidirectional/forward_layer/cell",
            {"layers/bidirectional/forward_layer": "forward_lstm"},
            ("bidirectional", "lstm", "forward"),
        ),
        ("b/mix/query_dense", {"b/mix": "multi_head_attention_1"}, ("b/mix", "einsum_dense", "query")),
        ("block/dense", {"block/dense": "embedding"}, ("block/dense", "embedding", "")),
        ("block/dense", {}, ("block/dense", "", "")),
        ("layers/multi_head_attention/_key_dense", {}, ("multi_head_attention", "einsum_dense", "key")),
        ("layers/rnn/cell/cells/gru_cell_1", {}, ("rnn/cell/cells/gru_cell_1", "gru_cell", "")),
        ("block/query_dense", {"block/query_dense": "dense_4"}, ("block/query_dense", "dense", "")),
        ("blocks/dense_2", {"": "model", "blocks/dense_2": "mine"}, ("blocks/dense_2", "dense", "")),
        ("layers/time_distributed/layer", {}, ("time_distributed", "", "")),
        ("a/layer", {"a": "time_distributed", "a/layer": "dense_1"}, ("a", "dense", "")),
        ("layers/my_layer/cell", {}, ("my_layer/cell", "", "")),
        ("", {"": "model"}, ("", "", "")),
    ],
)  # fmt: skip
def test_places_without_a_configuration(path, names, wanted):
    place = place_without_config(path, names.get)
    assert (place.unit, place.kind, place.prefix) == wanted
    assert place.config is None


def test_numbers_in_names_are_numbers():
    paths = ["l/conv2d_10/vars/0", "l/conv2d_2/vars/0", "l/conv2d/vars/0", "l/conv2d/vars/10", "l/conv2d/vars/9"]
    assert sorted(paths, key=file_order)[:3] == ["l/conv2d/vars/0", "l/conv2d/vars/9", "l/conv2d/vars/10"]
    assert sorted(paths, key=file_order)[3:] == ["l/conv2d_2/vars/0", "l/conv2d_10/vars/0"]


@pytest.mark.parametrize("cells", ["x", 3, None, ["x", 3, None], {}])
def test_stacked_cells_that_are_none_have_no_place(cells):
    model = {"class_name": "Sequential", "config": [layer("RNN", "a", cell=layer("StackedRNNCells", "b", cells=cells))]}
    assert list(places(model)) == ["layers/rnn"]


def test_endless_names_have_no_place():
    model = layer("Dense", "d")
    for _ in range(50):
        model = {"class_name": "Sequential", "config": {"name": "x" * 100, "layers": [model]}}
    assert max(len(place.unit) for place in places(model).values()) <= 1000


def test_lists_of_layers_are_counted_as_they_run():
    counted = ("layers/dense_1", "layers/functional/layers/dense", "layers/bidirectional/backward_layer/cell",
               "layers/multi_head_attention/query_dense", "layers/rnn/cell/cells/gru_cell_1")  # fmt: skip
    names = dict.fromkeys(("layers/input_layer", "layers/functional/layers/input_layer_3"), "x")
    assert all(is_counted(path, names) for path in counted)
    others = ("", "encode", "stack/dense_1", "layers/my_block/decode", "block/layers/dense", "layers/net/layers/dense")
    assert not any(is_counted(path, names) for path in others)


def test_a_list_of_layers_that_is_no_functional_model_says_nothing():
    assert not is_counted("layers/dense_1", {"": "my_network"})  # a class whose attributes come after `layers`
    assert is_counted("layers/dense_1", {"": "sequential_4"})
    assert is_counted("layers/sequential/layers/dense_1", {"layers/input_layer": "image"})
