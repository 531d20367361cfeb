import pytest

from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.scaffold.onnx.node import LayerTensor
from frostline.porting.scaffold.onnx.values import INT, numbers
from frostline.porting.scaffold.onnx.weights import Weights
from frostline.porting.scaffold.python_text import NotWrittenError


def tensor(unit, leaf, *shape, dtype="float32"):
    return SourceTensor(f"{unit}.{leaf}", shape, dtype, unit, leaf, lambda: None)


WEIGHT, BIAS, SCALE = tensor("fc", "weight", 3, 4), tensor("fc", "bias", 4), tensor("block", "gamma", 4)
INDEX = tensor("index", "index", 9, dtype="int64")


def weights():
    return Weights(Source("ONNX", "onnx", (WEIGHT, BIAS, SCALE, INDEX)), "x.device")


def test_a_layer_holds_a_whole_unit_and_is_called_again():
    made = weights()
    held = {"weight": LayerTensor(WEIGHT, "weight", True), "bias": LayerTensor(BIAS, "bias")}
    assert made.weighted("nn.Linear(3, 4)", held) == "self.fc" == made.weighted("nn.Linear(3, 4)", held)
    assert made.weighted("nn.Linear(4, 4)", held) is None
    assert made.parameter(WEIGHT).text == "self.fc.weight.T"
    assert made.made == {"fc": "nn.Linear(3, 4)"}


def test_a_part_of_a_unit_is_no_layer():
    made = weights()
    assert made.weighted("nn.Linear(3, 4, bias=False)", {"weight": LayerTensor(WEIGHT, "weight")}) is None
    assert made.parameter(WEIGHT).text == "self.fc_weight"
    assert made.parameter(BIAS).rank == 1
    assert made.made == {"fc_weight": "nn.Parameter(torch.zeros(3, 4))", "fc_bias": "nn.Parameter(torch.zeros(4))"}


def test_weights_of_no_layer_are_parameters_or_buffers():
    made = weights()
    assert made.parameter(SCALE).text == "self.block"
    assert made.parameter(INDEX).kind == INT
    assert made.made["index"] == 'register_buffer("index", torch.zeros(9, dtype=torch.int64))'


def test_constants_are_no_part_of_the_state():
    made = weights()
    assert made.buffer(numbers([1, 2])).text == made.buffer(numbers([1, 2])).text == "self.constant"
    assert made.made["constant"] == 'register_buffer("constant", torch.tensor([1, 2]), persistent=False)'


def test_what_a_recurrent_layer_holds_is_not_taken_out():
    made = weights()
    made.weighted("nn.GRU(3, 4)", {"weight": LayerTensor(WEIGHT, ""), "bias": LayerTensor(BIAS, "")})
    assert made.parameter(WEIGHT, is_used=False).text == ""
    with pytest.raises(NotWrittenError, match=r"fc\.weight"):
        made.parameter(WEIGHT)


def test_layers_without_weights_get_names_of_their_own():
    made = weights()
    assert [made.layer("pool", "nn.MaxPool2d(2)") for _ in range(2)] == ["self.pool", "self.pool_"]
