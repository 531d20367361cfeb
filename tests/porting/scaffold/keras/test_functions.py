from dataclasses import replace

import pytest
import torch

from frostline.core.errors import PortError
from frostline.porting.scaffold.module_text import module_text
from helpers_interpreting import floats, names, network
from helpers_scaffold import error, filled

KINDS = (
    "Activation ReLU LeakyReLU Softmax ELU Add Subtract Multiply Average Maximum Minimum Concatenate Flatten Reshape "
    "Permute RepeatVector Rescaling Dropout MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D "
    "AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D "
    "GlobalAveragePooling2D GlobalAveragePooling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D "
    "UpSampling1D UpSampling2D GaussianNoise "
    "ThresholdedReLU UnitNormalization Dot"
).split()
REFUSED = {"relu_all", "activation_squareplus", "dot_normal"}


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_is_written_as_keras_computes_it(file, name, tmp_path):
    if name in REFUSED:
        with pytest.raises(PortError, match="No module can be written for this network"):
            error(file, name, tmp_path)
    else:
        assert error(file, name, tmp_path) <= 1e-5


def test_layers_that_do_nothing_in_inference_are_left_out(tmp_path):
    kinds = ("Identity", "ActivityRegularization", "GaussianDropout", "AlphaDropout", "RandomFlip")
    layers = [(kind, kind, {"rate": 0.5}, (before,)) for before, kind in zip(("in", *kinds), kinds, strict=False)]
    source = network(
        ("in", "InputLayer", {"batch_shape": [None, 3]}, ()), *layers,
        ("end", "Dense", {"use_bias": False}, (kinds[-1],)), end__kernel=floats(3, 4),
    )  # fmt: skip
    x = floats(2, 3)
    assert torch.allclose(filled(source, tmp_path)(x), x @ floats(3, 4), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "args", "text"),
    [("Add", [None, 3.0], "x = x + 3"), ("Multiply", [0.5, None], "x = 0.5 * x"), ("Subtract", [1, None], "x = 1 - x")],
)
def test_an_operation_on_a_tensor_and_a_number(kind, args, text, tmp_path):
    source = network(
        ("in", "InputLayer", {"batch_shape": [None, 3]}, ()), ("fc", "Dense", {"use_bias": False}, ("in",)),
        ("end", kind, {"call": {"args": args, "kwargs": {}}}, ("fc",)), fc__kernel=floats(3, 4),
    )  # fmt: skip
    own = replace(source.layers[-1], config={"call": {"args": args, "kwargs": {}}})
    source = replace(source, layers=(*source.layers[:-1], own))
    assert text in module_text(source, "file")
    assert filled(source, tmp_path)(floats(2, 3)).shape == (2, 4)
