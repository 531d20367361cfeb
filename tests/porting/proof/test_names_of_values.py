import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import frostline as fl
from frostline.porting.proof.names_of_values import input_order, output_order
from helpers_porting import numbers


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.u, self.v = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, v, u):
        return {"z": self.v(v).tanh(), "y": self.u(u).relu()}


@pytest.mark.parametrize(
    ("names", "order"), [(["u", "v"], [1, 0]), (["v", "u"], [0, 1]), (["a", "v"], [0, 1]), (["u"], [0])]
)
def test_inputs_stand_in_the_order_of_the_arguments_with_their_names(names, order):
    assert input_order(Twins(), names) == order


def test_a_forward_without_a_signature_takes_inputs_as_they_stand():
    module = Twins()
    module.forward = dict.fromkeys  # a built-in method
    assert input_order(module, ["u", "v"]) == [0, 1]


@pytest.mark.parametrize(
    ("names", "order"), [(["y", "z"], [1, 0]), (["z", "y"], [0, 1]), (["a", "b"], [0, 1]), (["y"], [0])]
)
def test_outputs_stand_in_the_order_of_the_entries_with_their_names(names, order):
    x = torch.randn(2, 4)
    assert output_order(Twins(), (x, x), names) == order
    assert output_order(Twins(), (x,), names) == list(range(len(names)))  # the module does not take this


def twins(path):
    weights = {"wu": numbers(4, 4), "wv": numbers(4, 4, seed=7), "b": numbers(4), "c": numbers(4)}
    nodes = [
        helper.make_node("Gemm", ["u", "wu", "b"], ["hu"], transB=1), helper.make_node("Relu", ["hu"], ["y"]),
        helper.make_node("Gemm", ["v", "wv", "c"], ["hv"], transB=1), helper.make_node("Tanh", ["hv"], ["z"]),
    ]  # fmt: skip
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in "uvyz"}
    stored = [numpy_helper.from_array(one.numpy(), name) for name, one in weights.items()]
    graph = helper.make_graph(nodes, "g", [values["u"], values["v"]], [values["y"], values["z"]], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return weights


def test_a_module_with_other_orders_of_arguments_and_entries_is_compared_by_name(tmp_path):
    weights, module = twins(tmp_path / "f.onnx"), Twins()
    certificate = fl.port(tmp_path / "f.onnx", module)
    assert certificate.runs
    assert torch.equal(module.u.weight, weights["wu"])
    assert torch.equal(module.v.weight, weights["wv"])
