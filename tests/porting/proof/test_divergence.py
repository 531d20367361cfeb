import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.divergence import exact_difference, first_difference
from frostline.porting.proof.module_outputs import nearest
from frostline.porting.proof.reference import Reference, reference_of
from frostline.recipes.port import port
from helpers_interpreting import floats, network, small_network
from helpers_porting import numbers

SOURCE = small_network("tanh")


class Own(nn.Module):
    def __init__(self, eps=0.5, ending=torch.tanh):
        super().__init__()
        self.see, self.even, self.say = (
            nn.Conv2d(2, 4, 3, bias=False),
            nn.BatchNorm2d(4, eps),
            nn.Linear(4, 3, bias=False),
        )
        self.ending = ending

    def forward(self, x):
        return self.ending(self.say(self.even(self.see(x).relu()).mean((2, 3))))


def told(model, source=SOURCE):
    plan = make_plan(source, "file", model)
    carry_out(plan, nn.Sequential())
    reference = reference_of(source, plan, model)
    return nearest(model, reference.goldens)[0], first_difference(plan, model, reference, reference.goldens[0])


def test_the_first_layer_that_differs_is_named():
    error, text = told(Own(eps=1e-5))
    assert error > 1e-3
    assert text.startswith("the first layer that differs is 'norm' (BatchNormalization) and 'even' (BatchNorm2d), by ")
    assert text.endswith("1 before it agree")


def test_a_difference_after_all_layers():
    error, text = told(Own(ending=torch.sin))
    assert error > 1e-3
    assert (
        text == "all 3 layers that can be compared agree: the difference comes after 'out' (Dense) and 'say' (Linear)"
    )


def test_layers_of_a_module_that_agrees_all_agree():
    error, text = told(Own())
    assert error < 1e-5
    assert text.startswith("all 3 layers")


def test_recurrent_layers_are_compared_by_their_last_step():
    source = network(
        ("x", "InputLayer", {"batch_shape": [None, 5, 3]}, ()), ("rnn", "SimpleRNN", {"activation": "tanh"}, ("x",)),
        ("out", "Dense", {"use_bias": False}, ("rnn",)), rnn__kernel=floats(3, 4), rnn__recurrent_kernel=floats(4, 4),
        rnn__bias=floats(4), out__kernel=floats(4, 2),
    )  # fmt: skip

    class Recurrent(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.rnn, self.out = nn.RNN(3, 4, batch_first=True, **options), nn.Linear(4, 2, bias=False)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    assert told(Recurrent(), source)[1].startswith("all 2 layers")
    assert "the first layer that differs is 'rnn' (SimpleRNN)" in told(Recurrent(nonlinearity="relu"), source)[1]


def test_without_layers_to_compare():
    model = Own()
    plan, x = make_plan(SOURCE, "file", model), floats(1, 2, 6, 7)
    golden = reference_of(SOURCE, plan, model).goldens[0]
    assert (
        first_difference(plan, model, Reference(SOURCE), golden) == "all weights are assigned, but the outputs differ"
    )
    assert x.shape == (1, 2, 6, 7)


def test_differences_of_roundings_are_none_in_float64():
    class Rounding(Own):
        def forward(self, x):  # as a deep network does in float32, and not in float64
            x = self.even(self.see(x).relu()).mean((2, 3))
            return self.ending(self.say(x * (1 + 1e-2 * (x.dtype == torch.float32))))

    model = Rounding()
    _, text = told(model)
    assert text.startswith("the first layer that differs is 'out'")
    plan = make_plan(SOURCE, "file", model)
    reference = reference_of(SOURCE, plan, model)
    assert exact_difference(plan, model, reference, reference.goldens[0]).startswith("all 3 layers")
    other = Own(eps=1e-5)
    plan = make_plan(SOURCE, "file", other)
    carry_out(plan, nn.Sequential())
    assert "differs is 'norm'" in exact_difference(plan, other, reference, reference.goldens[0])


def onnx_network(path, epsilon):
    """Convolution, ReLU, BatchNorm, mean, and a product whose bias is added by a node of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "w": numbers(4, 2, 3, 3), "g": numbers(4), "b": numbers(4), "m": numbers(4), "v": numbers(4),
        "k": numbers(4, 3), "c": numbers(3),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "g", "b", "m", "v"], ["n"], epsilon=epsilon),
        helper.make_node("ReduceMean", ["n"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["p", "k"], ["q"]), helper.make_node("Add", ["q", "c"], ["s"]),
        helper.make_node("Tanh", ["s"], ["y"]),
    ]  # fmt: skip
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 2, 5, 5])
    stored = [numpy_helper.from_array(one.numpy(), name) for name, one in weights.items()]
    graph = helper.make_graph(nodes, "g", [given], [made], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class OfOnnx(Own):
    def __init__(self, eps=0.5, ending=torch.tanh):
        super().__init__(eps, ending)
        self.say = nn.Linear(4, 3)


@pytest.mark.parametrize(("module", "text"), [
    (OfOnnx(eps=1e-5), "the first layer that differs is 'BatchNormalization_2' (BatchNormalization) and 'even'"),
    (OfOnnx(ending=torch.sin), "all 3 layers that can be compared agree: the difference comes after 'Add_5' (Add) and"),
])  # fmt: skip
def test_the_first_layer_of_an_onnx_graph_that_differs_is_named(tmp_path, module, text):
    onnx_network(tmp_path / "f.onnx", 0.5)
    with pytest.raises(PortError, match="The module does not compute what the source network does") as caught:
        port(tmp_path / "f.onnx", module)
    assert text in caught.value.received
