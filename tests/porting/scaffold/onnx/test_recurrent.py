import pytest

from frostline.porting.readers.contract import SourceTensor
from frostline.porting.scaffold.onnx.values import Value
from helpers_onnx_operators import written
from helpers_onnx_text import refusal, result

X = Value("x", 3)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("lstm", ["nn.LSTM(4, 3)", "lstm_0, (", ") = self.LSTM_0(x)"]),
        ("lstm_both", ["nn.LSTM(4, 3, bidirectional=True)", ".unflatten(-1, (2, 3)).transpose(1, 2)"]),
        ("lstm_states", ["nn.LSTM(4, 3, bias=False)", "(h0, c0))"]), ("gru", ["nn.GRU(4, 3)"]),
        ("gru_reset_first", ["blocks.ResetBeforeGRU(4, 3, state_bias=True)"]), ("gru_back", ["self.GRU_0(x.flip(0))"]),
        ("rnn", ['nn.RNN(4, 3, nonlinearity="relu")']),
    ],
)  # fmt: skip
def test_the_text_is_what_a_person_would_write(name, lines, tmp_path):
    text = written(name, tmp_path)
    for line in lines:
        assert line in text


def weights(gates):
    shapes = {"W": (1, gates * 3, 4), "R": (1, gates * 3, 3)}
    return [SourceTensor(leaf, shape, "float32", "rnn", leaf, lambda: None) for leaf, shape in shapes.items()]


def test_the_batch_may_come_first():
    tensors = weights(3)
    found = result("GRU", X, *tensors, tensors=tensors, layout=1, linear_before_reset=1, outputs=2)
    assert [one.text for one in found.values] == ["{}.unflatten(-1, (1, 3))", "{}.transpose(0, 1)"]


@pytest.mark.parametrize(
    ("kind", "more", "given", "why"),
    [
        ("LSTM", (), {"activations": ["Sigmoid", "Relu", "Tanh"]}, "the functions"),
        ("LSTM", (), {"clip": 1.0}, "clip"), ("LSTM", (None, Value("n", 1)), {}, "lengths of sequences"),
        ("LSTM", (None, None, Value("h", 3)), {}, "only one of its two states"),
        ("GRU", (None, None, Value("h", 3)), {}, "its reset gate acts before the product"),
    ],
)  # fmt: skip
def test_what_pytorch_has_not_is_not_written(kind, more, given, why):
    tensors = weights(4 if kind == "LSTM" else 3)
    assert why in refusal(kind, X, *tensors, *more, tensors=tensors, **given)


def test_weights_that_are_computed_are_not_written():
    assert "weights that are computed" in refusal("RNN", X, X, X)
