from dataclasses import replace

import pytest
import torch

from frostline.porting.interpreter.activations import without_activation
from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import NotInterpretedError
from helpers_interpreting import assert_same, layer, names

KINDS = "Activation ReLU LeakyReLU ELU PReLU Softmax ThresholdedReLU".split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


def test_hard_sigmoid_is_another_function_since_keras_3():
    old, new = layer("keras2", "activation_hard_sigmoid"), layer("keras3", "activation_hard_sigmoid")
    inputs = (torch.tensor([[1.0]], dtype=torch.float64),)
    assert float(apply(replace(old, inputs=inputs))) == pytest.approx(0.7)
    assert float(apply(replace(new, inputs=inputs))) == pytest.approx(4 / 6)
    with pytest.raises(NotInterpretedError, match="of an unknown version of Keras"):
        apply(replace(new, version=0))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("activation_relu", {"activation": "waves"}),
        ("activation_relu", {"activation": {"class_name": "function", "module": "mine", "config": "relu"}}),
        ("activation_relu", {"activation": {"class_name": "Waves", "config": {}}}),
        ("softmax_axis", {"axis": [1, 2]}),
        ("leaky", {"negative_slope": "steep"}),
    ],
)
def test_unknown_settings_are_refused(name, config):
    with pytest.raises(NotInterpretedError, match=f"not interpreted: {name}"):
        apply(layer("keras3", name, **config))


def test_a_layer_without_its_last_activation():
    assert torch.equal(
        without_activation(layer("keras3", "dense")) and apply(without_activation(layer("keras3", "dense"))).tanh(),
        apply(layer("keras3", "dense")),
    )
    assert without_activation(layer("keras3", "dense_no_bias")) is None
    assert without_activation(layer("keras3", "lstm")) is None
