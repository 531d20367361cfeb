import pytest

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import NotInterpretedError
from helpers_interpreting import assert_same, layer, names

KINDS = (
    "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D GlobalAveragePooling2D "
    "GlobalAveragePooling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D UpSampling1D "
    "UpSampling2D"
).split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("Max2_same", {"pool_size": 10**9}, "values of the shape"),
        ("padded2", {"padding": 10**9}, "values of the shape"),
        ("larger2", {"size": 10**9}, "values of the shape"),
        ("Max2", {"padding": "causal"}, "padding 'causal'"),
        ("Max2_global", {"data_format": "channels_first"}, "data_format='channels_first'"),
        ("padded2", {"padding": [1, 2, 3]}, "padding [1, 2, 3]"),
        ("larger2", {"interpolation": "lanczos3"}, "interpolation 'lanczos3'"),
    ],
)
def test_unknown_settings_are_refused(name, config, why):
    with pytest.raises(NotInterpretedError) as caught:
        apply(layer("keras3", name, **config))
    assert why in str(caught.value)
