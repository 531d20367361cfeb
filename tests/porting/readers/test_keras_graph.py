import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import keras_graph
from frostline.porting.readers.keras_graph import code_in, graph, is_model, layers_in, name_of
from frostline.porting.readers.weight_file import WeightFile


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as opened:
        yield opened


def tensor(name, index=0, slot=0):
    return {"class_name": "__keras_tensor__", "config": {"shape": [None], "keras_history": [name, index, slot]}}


def layer(kind, name, *calls, **config):
    nodes = [{"args": list(call), "kwargs": {}} for call in calls]
    return {"class_name": kind, "config": {"name": name, **config}, "name": name, "inbound_nodes": nodes}


def functional(name, layers, inputs, outputs, *calls):
    config = {"name": name, "layers": layers, "input_layers": inputs, "output_layers": outputs}
    return {
        "class_name": "Functional",
        "config": config,
        "inbound_nodes": [{"args": [tensor(c)], "kwargs": {}} for c in calls],
    }


def flat(layers):
    return [(found.name, found.inputs, found.unit) for found in layers]


def test_a_model_that_is_called_twice_is_listed_twice(file):
    inner = functional(
        "inner",
        [layer("InputLayer", "in"), layer("Dense", "d", [tensor("in")])],
        ["in", 0, 0],
        ["d", 0, 0],
        "x",
        "inner",
    )
    inner["inbound_nodes"][1]["args"] = [tensor("inner", 0)]
    model = functional("m", [layer("InputLayer", "x"), inner, layer("Dense", "head", [tensor("inner", 1)])], [], [])
    assert flat(graph(file, model)) == [
        ("x", (), ""),
        ("inner/d", ("x",), ""),
        ("inner:1/d", ("inner/d",), "inner/d"),
        ("head", ("inner:1/d",), ""),
    ]


def test_several_inputs_and_outputs_keep_their_order(file):
    parts = [
        layer("InputLayer", "a"),
        layer("InputLayer", "b"),
        layer("Dense", "p", [tensor("b")]),
        layer("Dense", "q", [tensor("a")]),
    ]
    inner = functional("inner", parts, [["a", 0, 0], ["b", 0, 0]], [["p", 0, 0], ["q", 0, 0]])
    inner["inbound_nodes"] = [{"args": [[tensor("x"), tensor("y")]], "kwargs": {}}]
    last = layer("Concatenate", "both", [[tensor("inner", 0, 1), tensor("inner", 0, 0)]])
    model = functional("m", [layer("InputLayer", "x"), layer("InputLayer", "y"), inner, last], [], [])
    named = {name: inputs for name, inputs, _ in flat(graph(file, model))}
    assert named["inner/p"] == ("y",)
    assert named["both"] == ("inner/q", "inner/p")


def test_layers_that_are_listed_late_come_in_time(file):
    listed = [layer("Dense", "b", [tensor("a")]), layer("Dense", "a", [tensor("x")]), layer("InputLayer", "x")]
    assert [name for name, _, _ in flat(graph(file, functional("m", listed, [], [])))] == ["x", "a", "b"]


def test_sequences_of_keras_1_have_no_name(file):
    model = {"class_name": "Sequential", "config": [layer("Dense", "a"), layer("Dense", "b")]}
    assert is_model(model)
    assert flat(graph(file, model)) == [("a", (), ""), ("b", ("a",), "")]


def test_classes_made_from_functional_models_are_models(file):
    model = functional("m", [layer("InputLayer", "x"), layer("Dense", "d", [tensor("x")])], ["x", 0, 0], ["d", 0, 0])
    assert flat(graph(file, model | {"class_name": "Mine"})) == flat(graph(file, model))
    assert is_model(model | {"class_name": "Mine"})


def test_cycles_and_unknown_outputs_are_refused(file):
    for call, received in (
        (tensor("b"), "a cycle of layers"),
        (tensor("a", 7), "outputs of a layer that does not exist"),
    ):
        listed = [layer("Dense", "a", [call]), layer("Dense", "b", [tensor("a")])]
        with pytest.raises(PortError, match="damaged") as caught:
            graph(file, functional("m", listed, [], []))
        assert received in caught.value.received


def test_models_that_multiply_are_refused(file, monkeypatch):
    monkeypatch.setattr(keras_graph, "_MAX_COST", 1000)
    model = layer("Dense", "d")
    for depth in range(12):
        model = {"class_name": "Sequential", "config": {"name": f"m{depth}", "layers": [model, model]}}
    with pytest.raises(PortError, match="damaged") as caught:
        graph(file, model)
    assert "more than 1000 calls of layers" in caught.value.received
    inner = functional("i", [layer("InputLayer", f"x{number}") for number in range(40)], [], [], *["x"] * 40)
    with pytest.raises(PortError, match="damaged"):
        graph(file, functional("m", [layer("InputLayer", "x"), inner], [], []))


@pytest.mark.parametrize("model", [None, 3, [], {}, {"class_name": "Functional"}, {"class_name": "Model", "config": []},
                                   {"class_name": "Sequential", "config": {"layers": [3, None]}}])  # fmt: skip
def test_what_lists_no_layers_is_no_model(model):
    assert not is_model(model)


def test_names_of_layers():
    assert name_of({"class_name": "Dense"}) == "Dense"
    assert name_of({"class_name": "Dense", "config": {"name": "a"}}) == "a"
    assert layers_in({"config": {"layers": "no"}}) == []


def test_code_is_listed_once_and_not_endlessly():
    layers = [{"class_name": "Lambda", "config": {"name": f"code{number}"}} for number in range(30)]
    notes = code_in({"class_name": "Sequential", "config": {"layers": layers + layers}})
    assert len(notes) == 21
    assert notes[0] == "The file contains code in 'code0' (Lambda); it was not executed."
    assert notes[-1] == "There are 10 more of these."
    assert code_in({"class_name": "Dense", "module": "keras.layers", "config": {"name": "a"}}) == ()
