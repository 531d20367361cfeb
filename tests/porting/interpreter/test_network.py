from dataclasses import replace

import pytest
import torch

from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.network import input_names, interpret, output_names, version
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from helpers_interpreting import network


def tensor(unit, leaf, value):
    return SourceTensor(f"{unit}/{leaf}", tuple(value.shape), "float32", unit, leaf, lambda: value)


KERNEL = torch.arange(6.0).reshape(2, 3)
SOURCE = Source(
    "test", "keras", (tensor("fold", "kernel", KERNEL),), "graph",
    (
        SourceLayer("b", "InputLayer", {"batch_shape": [None, 2]}),
        SourceLayer("a", "InputLayer", {"batch_shape": [None, 2]}),
        SourceLayer("fold", "Dense", {"use_bias": False, "activation": "linear"}, ("a",)),
        SourceLayer("fold:1", "Dense", {"use_bias": False, "activation": "tanh"}, ("b",), unit="fold"),
        SourceLayer("minus", "Subtract", {"trainable": True}, ("fold", "fold:1")),
    ),
    inputs=("a", "b"), outputs=("minus", "fold:1"),
)  # fmt: skip
A, B = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[0.1, 0.2]]).double()


def test_a_network_of_several_inputs_and_outputs():
    found = interpret(SOURCE, [A, B], keeps_layers=True)
    kernel = KERNEL.double()
    assert torch.equal(found.outputs[1], (B @ kernel).tanh())
    assert torch.equal(found.outputs[0], A @ kernel - found.outputs[1])
    assert torch.equal(found.layers["fold"], A @ kernel)
    assert torch.equal(found.before[1], B @ kernel)
    assert interpret(SOURCE, [A, B]).layers == {}


def test_weights_are_read_when_their_layer_is_reached():
    reads = []
    lazy = replace(SOURCE.tensors[0], load=lambda: reads.append(1) or KERNEL)
    source = replace(SOURCE, tensors=(lazy,), outputs=("minus",))
    assert reads == []
    interpret(source, [A, B])
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"outputs": (), "layers": SOURCE.layers[:4]},
            "the file does not state which layers are the network's outputs",
        ),
        ({"inputs": ("a",)}, "1 inputs, 2 values"),
        ({"layers": (*SOURCE.layers[:4], SourceLayer("minus", "Lambda", {}, ("fold",)))}, "minus (Lambda)"),
        ({"layers": (*SOURCE.layers[:4], SourceLayer("minus", "Add", {}, ()))}, "it takes no layer's output"),
        ({"tensors": ()}, "fold (Dense): no weight 'kernel'"),
        ({"tensors": (tensor("fold", "kernel", torch.ones(4, 3)),)}, "fold (Dense): mat1 and mat2"),
    ],
)
def test_nothing_is_guessed(changes, why):
    with pytest.raises(NotInterpretedError) as caught:
        interpret(replace(SOURCE, **changes), [A, B])
    assert why in str(caught.value)


def test_the_ends_and_the_version_of_a_network():
    assert input_names(replace(SOURCE, inputs=())) == ("b", "a")
    assert output_names(replace(SOURCE, outputs=())) == ("minus",)
    assert version(SOURCE) == 3
    assert version(replace(SOURCE, layers=(SourceLayer("a", "InputLayer", {"batch_input_shape": [None]}),))) == 2
    assert version(replace(SOURCE, layers=())) == 0


def test_a_network_that_computes_for_too_long_is_not_run():
    side = ("x", "InputLayer", {"batch_shape": [None, 2000, 2000, 1]}, ())
    config = {"kernel_size": [300, 300], "filters": 8, "padding": "same", "use_bias": False}
    found = network(side, ("wide", "Conv2D", config, ("x",)), wide__kernel=torch.zeros(300, 300, 1, 8))
    with pytest.raises(NotInterpretedError, match="takes more than 5e\\+11 multiplications"):
        interpret(found, [torch.zeros(3, 2000, 2000, 1, dtype=torch.float64)])
