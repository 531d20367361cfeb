"""The merged layer is the layer and the norm; `tests/remedies/batchnorm/test_fold.py` tries more kinds of layers."""

import pytest
import torch
from torch import nn

from frostline.core.batchnorm_merge import is_batchnorm_with_activation, merge_after


@pytest.mark.parametrize(("layer", "norm", "shape"), [
    (nn.Linear(4, 6), nn.BatchNorm1d(6), (5, 4)),
    (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6, affine=False), (5, 4)),
    (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
])  # fmt: skip
def test_the_merged_layer_computes_the_layer_and_the_norm(layer, norm, shape):
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.eval()
    x = torch.randn(shape)
    expected = norm(layer(x))
    weight, bias = merge_after(layer, norm)
    with torch.no_grad():
        layer.weight.copy_(weight)
    layer.bias = nn.Parameter(bias.float())
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_a_norm_of_torch_holds_no_activation():
    assert not is_batchnorm_with_activation(nn.BatchNorm2d(3))
