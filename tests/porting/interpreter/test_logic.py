import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import Layer, NotInterpretedError

ONE, TWO = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double(), torch.tensor([[True, False], [True, True]])


def run(kind, *inputs, **config):
    return apply(Layer("one", kind, config, inputs, {}, 3))


def test_operations_of_masks():
    assert run("NotEqual", ONE, call={"args": [None, 0], "kwargs": {}}).tolist() == [[True, False], [False, False]]
    assert run("Any", ONE, axis=-1).tolist() == [True, False]
    assert run("Any", ONE, axis=0, keepdims=True).tolist() == [[True, False]]
    assert run("ExpandDims", ONE, axis=-1).shape == (2, 2, 1)
    assert torch.equal(run("LogicalOr", TWO, ~TWO), torch.ones_like(TWO))
    assert not run("LogicalAnd", TWO, ~TWO).any()
    assert run("OnesLike", ONE, dtype="bool").all()
    assert not run("ZerosLike", ONE, dtype="bool").any()


def test_a_number_is_compared_in_the_precision_of_the_values():
    given = torch.tensor([0.1]).double()  # what float32 holds
    assert not run("NotEqual", given, call={"args": [None, 0.1], "kwargs": {}}).any()


@pytest.mark.parametrize(("kind", "inputs", "config", "why"), [
    ("NotEqual", (ONE,), {"call": {"args": [None, {"a": 1}]}}, "the arguments"),
    ("NotEqual", (ONE,), {}, "the arguments None"),
    ("Any", (ONE,), {"axis": None}, "axis None"),
    ("ExpandDims", (ONE,), {"axis": [0, 1]}, "axis [0, 1]"),
    ("LogicalOr", (TWO,), {}, "1 inputs"),
    ("OnesLike", (ONE,), {"dtype": "float32"}, "dtype='float32'"),
])  # fmt: skip
def test_other_arguments_are_refused(kind, inputs, config, why):
    with pytest.raises(NotInterpretedError) as caught:
        run(kind, *inputs, **config)
    assert why in str(caught.value)
