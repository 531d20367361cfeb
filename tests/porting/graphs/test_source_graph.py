from frostline.porting.graphs.source_graph import flow, input_shapes, is_turned
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of

LAYERS = [("in", "InputLayer", {"batch_shape": [None, 8, 3]}, ()), ("a", "Dense", {}, ("in",)),
          ("relu", "ReLU", {}, ("a",)), ("both", "Bidirectional", {}, ("relu", "in")),
          ("b", "Dense", {}, ("both",))]  # fmt: skip


def test_layers_without_weights_are_passed_through():
    units = {name: {"kernel": numbers(2, 2)} for name in ("a", "both/forward", "both/backward", "b")}
    source = source_of("keras", units, layers=LAYERS)
    assert flow(source, source_units(source)) == {
        "a": set(), "both/forward": {"a"}, "both/backward": {"a"}, "b": {"both/forward", "both/backward"},
    }  # fmt: skip
    assert flow(source_of("keras", units), ()) is None


def test_inputs_are_known_where_their_shape_is_closed():
    assert input_shapes(source_of("keras", {}, layers=LAYERS)) == (((8, 3), "float32"),)
    opened = [("in", "InputLayer", {"batch_shape": [None, None, 3]}, ())]
    assert input_shapes(source_of("keras", {}, layers=opened)) == ()


def nodes(*kinds):
    """A chain of nodes, the layer named `dense` among them."""
    made = []
    for index, kind in enumerate(kinds):
        kind, config = kind if isinstance(kind, tuple) else (kind, {})
        name = "dense" if kind == "MatMul" else f"n{index}"
        made.append((name, kind, config, [made[-1][0]] if made else []))
    return source_of("onnx", {"dense": {"weight": numbers(4, 4)}}, layers=made)


def test_a_graph_says_whether_channels_are_moved_before_a_flatten_and_behind_a_reshape():
    last, first = ("Transpose", {"perm": [0, 2, 3, 1]}), ("Transpose", {"perm": [0, 3, 1, 2]})
    assert is_turned(nodes("Input", "Conv", "Relu", last, "Reshape", "MatMul"), "dense", before=True) is True
    assert is_turned(nodes("Input", "Conv", "MaxPool", "Flatten", "MatMul"), "dense", before=True) is False
    assert is_turned(nodes("Input", "Conv", first, "Reshape", "MatMul"), "dense", before=True) is None
    assert is_turned(nodes("Input", "Conv", "Slice", "MatMul"), "dense", before=True) is None
    assert is_turned(nodes("Input", "MatMul"), "dense", before=True) is None
    assert is_turned(nodes("Input", "MatMul", "Add", "Reshape", first, "Conv"), "dense", before=False) is True
    assert is_turned(nodes("Input", "MatMul", "Reshape", "ConvTranspose"), "dense", before=False) is False
    assert is_turned(nodes("Input", "MatMul"), "dense", before=False) is None
