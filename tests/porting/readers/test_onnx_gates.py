from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.porting.readers.onnx_gates import joined
from frostline.porting.readers.onnx_node import Constant, Node

FILES = Path(__file__).parents[1] / "files" / "onnx"


class Built:
    """A graph of nodes, as the reader holds it."""

    def __init__(self):
        self.nodes, self.made, self.constants = [], {}, {}

    def constant(self, name, values):
        tensor = SimpleNamespace(
            shape=tuple(values.shape), dtype=str(values.dtype).removeprefix("torch."), num_elements=values.numel(),
            is_float=values.is_floating_point(), load=lambda: values,
        )  # fmt: skip
        self.constants[name] = Constant(name, tensor)
        return name

    def number(self, value):
        return self.constant(f"n{value}", torch.tensor([value]))

    def node(self, kind, *inputs, **config):
        value = f"v{len(self.nodes)}"
        sources = [self.made[one] for one in inputs if one in self.made]
        node = Node(f"n_{value}", kind, config | {"input": [*inputs], "output": [value]}, [*inputs], sources)
        owners = {constant.name for other in self.nodes for constant, _ in other.owned}
        for one in inputs:
            if one in self.constants and one not in owners and self.constants[one].is_float:
                node.owned.append((self.constants[one], one.rpartition(".")[2]))
        self.nodes.append(node)
        self.made[value] = node
        return value

    def rows(self, name, *starts, axis=0):
        parts = [self.node("Slice", name, self.number(at), self.number(at + 2), self.number(axis)) for at in starts]
        return self.node("Unsqueeze", self.node("Concat", *parts, axis=0), self.number(0))

    def joined(self):
        return joined(self.nodes, self.made, self.constants)


def gru(*, forward=(2, 0, 4), axis=0):
    graph = Built()
    for name in ("r.weight_ih_l0", "r.weight_ih_l0_reverse"):
        graph.constant(name, torch.arange(18.0).reshape(6, 3) + 100 * name.endswith("_reverse"))
    graph.constant("val_1", torch.ones(2, 6, 2))
    whole = [graph.rows("r.weight_ih_l0", *forward, axis=axis), graph.rows("r.weight_ih_l0_reverse", 2, 0, 4)]
    graph.node("GRU", "", graph.node("Concat", *whole, axis=0), "val_1")
    return graph


def test_both_directions_of_a_weight_are_put_in_order():
    (node,) = gru().joined()
    (_, first), (weight, leaf) = node.owned
    assert (node.unit, first, leaf) == ("r/l0", "val_1", "W")
    assert weight.name == "r.weight_ih_l0 + r.weight_ih_l0_reverse"
    assert node.config["input"][1] == weight.name
    rows = torch.arange(18.0).reshape(6, 3)[[2, 3, 0, 1, 4, 5]]
    assert weight.load().equal(torch.stack([rows, rows + 100]))
    assert weight.shape == (2, 6, 3)
    assert node.sources == []


@pytest.mark.parametrize("changes", [{"forward": (2, 0, 0)}, {"forward": (2, 0)}, {"axis": 1}])
def test_rows_that_are_left_out_or_taken_twice_are_left_as_they_are(changes):
    graph = gru(**changes)
    before = [list(node.owned) for node in graph.nodes]
    assert graph.joined() == graph.nodes
    assert [node.owned for node in graph.nodes] == before


def test_weights_that_are_all_in_the_order_of_pytorch_are_left_as_they_are():
    graph = gru()
    graph.constants.pop("val_1")
    assert len(graph.joined()) == len(graph.nodes)


def test_nodes_that_others_need_stay():
    graph = gru()
    graph.node("Relu", graph.nodes[0].config["output"][0])
    assert [node.kind for node in graph.joined()] == ["Slice", "GRU", "Relu"]


def test_a_weight_that_another_node_used_first_is_left_as_it_is():
    graph = Built()
    graph.constant("w", torch.ones(4, 3))
    graph.constant("val_1", torch.ones(1, 4, 2))
    graph.node("MatMul", "", "w")
    graph.node("GRU", "", graph.rows("w", 2, 0), "val_1")
    assert len(graph.joined()) == len(graph.nodes)


def test_a_graph_that_multiplies_is_no_weight():
    graph = Built()
    value = graph.constant("w", torch.ones(4, 3))
    graph.constant("val_1", torch.ones(1, 4, 2))
    for _ in range(200):
        value = graph.node("Concat", value, value, axis=0)
    graph.node("GRU", "", value, "val_1")
    assert len(graph.joined()) == 201


def test_the_module_computes_what_the_graph_does():
    model = nn.LSTM(1030, 2, batch_first=True)
    certificate = fl.port(FILES / "half_folded.onnx", model)
    assert certificate.units() == {"l0/forward": ":l0"}
    stored = np.load(FILES / "half_folded.npz")
    for name, value in model.state_dict().items():
        assert value.numpy().tobytes() == stored[name].tobytes()
