import pytest

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import NotInterpretedError
from helpers_interpreting import assert_same, layer, names

KINDS = (
    "Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Conv1DTranspose "
    "Conv2DTranspose Conv3DTranspose"
).split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("conv2_same", {"dilation_rate": 10**9}, "values of the shape"),
        ("transposed2_same_3_2", {"strides": 10**9}, "values of the shape"),
        ("conv2", {"data_format": "channels_first"}, "data_format='channels_first'"),
        ("conv2", {"padding": "causal"}, "padding 'causal'"),
        ("conv2", {"strides": [1, 1, 1]}, "sizes [1, 1, 1] for 2 axes"),
        ("conv2", {"groups": "2"}, "groups '2'"),
        ("conv2", {"activation": "waves"}, "activation 'waves'"),
        ("transposed2_same_3_2", {"padding": "causal"}, "padding 'causal'"),
    ],
)
def test_unknown_settings_are_refused(name, config, why):
    with pytest.raises(NotInterpretedError) as caught:
        apply(layer("keras3", name, **config))
    assert str(caught.value).startswith(f"not interpreted: {name} (")
    assert why in str(caught.value)
