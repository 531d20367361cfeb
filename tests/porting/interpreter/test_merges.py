from dataclasses import replace

import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import Layer, NotInterpretedError
from helpers_interpreting import assert_same, layer, names

KINDS = (
    "Add Subtract Multiply Average Maximum Minimum Concatenate Dot Flatten Reshape Permute RepeatVector "
    "Rescaling Dropout GaussianNoise"
).split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("repeat", {"n": 10**9}, "values of the shape"),
        ("repeat", {"n": "2"}, "n '2'"),
        ("reshape", {"target_shape": [7, 7]}, "for values of shape (5, 6, 4)"),
        ("permute", {"dims": [1, 1, 2]}, "dims [1, 1, 2]"),
        ("flatten", {"data_format": "channels_first"}, "data_format='channels_first'"),
        ("rescaling", {"scale": "half"}, "scale 'half'"),
        ("Concatenate", {"axis": None}, "axis None of 3 inputs"),
    ],
)
def test_unknown_settings_are_refused(name, config, why):
    with pytest.raises(NotInterpretedError) as caught:
        apply(layer("keras3", name, **config))
    assert why in str(caught.value)


def test_operations_on_tensors_take_numbers():
    (x, *_) = layer("keras3", "Subtract").inputs
    made = Layer("minus", "Subtract", {"name": "minus", "call": {"args": [2.0, None], "kwargs": {}}}, (x,), {}, 3)
    assert torch.equal(apply(made), 2 - x)
    for kind, arguments in (
        ("Average", {"args": [None]}),
        ("Add", {"args": [None, {"a": 1}]}),
        ("Add", {"args": [None] * 3}),
    ):
        with pytest.raises(NotInterpretedError):
            apply(Layer("op", kind, {"name": "op", "call": arguments}, (x,), {}, 3))


def test_values_of_different_numbers_of_axes_are_not_added():
    given = layer("keras3", "Add")
    with pytest.raises(NotInterpretedError, match="inputs of different numbers of axes"):
        apply(replace(given, inputs=(given.inputs[0], given.inputs[0][:, 0])))
