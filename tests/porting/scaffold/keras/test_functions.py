import pytest

from frostline.core.errors import PortError
from helpers_interpreting import names
from helpers_scaffold import error

KINDS = (
    "Activation ReLU LeakyReLU Softmax ELU Add Subtract Multiply Average Maximum Minimum Concatenate Flatten Reshape "
    "Permute RepeatVector Rescaling Dropout MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D "
    "AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GlobalAveragePooling1D "
    "GlobalAveragePooling2D GlobalAveragePooling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D "
    "UpSampling1D UpSampling2D"
).split()
REFUSED = {
    "relu_all", "rescaling_each", "activation_celu", "activation_log_sigmoid", "activation_hard_tanh",
    "activation_tanh_shrink", "activation_soft_shrink", "activation_hard_shrink", "activation_squareplus",
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_is_written_as_keras_computes_it(file, name, tmp_path):
    if name in REFUSED:
        with pytest.raises(PortError, match="No module can be written for this network"):
            error(file, name, tmp_path)
    else:
        assert error(file, name, tmp_path) <= 1e-5
