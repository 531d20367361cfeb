from frostline.porting.graphs.source_graph import flow, input_shapes
from frostline.porting.units.units import source_units
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
