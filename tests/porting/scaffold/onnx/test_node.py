import pytest

from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.scaffold.onnx.node import Node, highest, widest
from frostline.porting.scaffold.onnx.values import BOOL, FLOAT, INT, Numbers, Value, numbers, objects
from frostline.porting.scaffold.onnx.weights import Weights
from frostline.porting.scaffold.python_text import NotWrittenError

WEIGHT = SourceTensor("fc.weight", (3, 4), "float32", "fc", "weight", lambda: None)
SIZES = Numbers(objects(["x.shape[0]", -1]))


def node(*inputs, transposed=(), **config):
    made = Weights(Source("ONNX", "onnx", (WEIGHT,)), "x.device")
    return Node("layer", "Kind", config, inputs, (True,), 17, made, frozenset(transposed))


def test_inputs_as_tensors_and_as_numbers():
    one = node(Value("x", 2), WEIGHT, SIZES, None, numbers([0.5, 1.5]))
    assert (one.x.text, one.tensor(1).text) == ("x", "self.fc")
    assert one.weight(1) is WEIGHT
    assert one.weight(0) is one.weight(9) is None
    assert one.list_of(2) == ["x.shape[0]", -1]
    assert one.tensor(2).text == "torch.tensor([x.shape[0], -1], device=x.device)"
    assert one.tensor(4).text == "self.constant"
    assert (one.has(2), one.has(3), one.has(7)) == (True, False, False)


def test_a_weight_that_is_transposed_first():
    one = node(Value("x", 2), WEIGHT, transposed=(1,))
    assert one.weight(1) is None
    assert one.tensor(1).text == "self.fc.T"


def test_settings_are_checked():
    one = node(axis=1, alpha=0.5, pads=[1, 2], mode="linear", wrong="1", truth=True)
    assert (one.integer("axis", 0), one.number("alpha", 1.0), one.integers("pads")) == (1, 0.5, [1, 2])
    assert (one.choice("mode", "nearest", "nearest", "linear"), one.axes(3, "pads"), one.axes(3)) == (
        "linear", [1, 2], None)  # fmt: skip
    for ask in (
        lambda: one.integer("wrong", 0), lambda: one.integer("truth", 0), lambda: one.number("wrong", 0),
        lambda: one.integers("axis"), lambda: one.choice("mode", "nearest", "nearest"), lambda: one.need(None),
        lambda: one.given(0), lambda: one.integer("missing", None),
    ):  # fmt: skip
        with pytest.raises(NotWrittenError, match=r"the node 'layer' \(Kind\): "):
            ask()


def test_what_is_computed_is_not_known():
    for ask in (lambda: node(SIZES).known(0), lambda: node(SIZES).scalar(0), lambda: node(Value("x", 1)).list_of(0)):
        with pytest.raises(NotWrittenError):
            ask()
    assert node(Value("n", 0)).list_of(0) == ["int(n)"]
    assert node(numbers([3])).scalar(0) == "3"


def test_ranks_and_kinds_of_several_values():
    assert highest(Value("x", 3), numbers(1.0), Value("y", 2)) == 3
    assert highest(Value("x", 3), Value("y")) is None
    assert widest(Value("x", kind=INT), numbers(0.5)) == FLOAT
    assert widest(Value("x", kind=BOOL)) == BOOL
    assert node().axis(-1, 4) == 3
    assert node().axis(-1, None) == -1
