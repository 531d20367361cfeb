from types import SimpleNamespace

import pytest

from frostline.porting.readers.onnx_node import Constant, Node, unit_of


@pytest.mark.parametrize(("names", "kind", "unit"), [
    (["layer1.conv.weight", "layer1.conv.bias"], "Conv", "layer1.conv"), (["onnx::Conv_193"], "Conv", "node"),
    (["a.weight", "b.bias"], "Conv", "node"), (["scale"], "Mul", ""), (["scale"], "Conv", "node"),
])  # fmt: skip
def test_a_unit_is_called_what_its_names_share(names, kind, unit):
    owned = [(Constant(name, SimpleNamespace(is_float=True)), "weight") for name in names]
    assert unit_of(Node("node", kind, {}, [], [], owned), ("Conv",)) == unit
    assert unit_of(Node("node", kind, {}, [], [], owned, "r/l0"), ("Conv",)) == "r/l0"
