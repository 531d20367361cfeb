import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from frostline.remedies.merging import merge_after, merge_before, write


def norm_of(kind, channels, **options):
    made = kind(channels, **options).double().eval()
    with torch.no_grad():
        for tensor, low in ((made.running_mean, -2), (made.running_var, 0.1), (made.weight, -2), (made.bias, -2)):
            if tensor is not None:
                tensor.uniform_(low, 3)
    return made


def check(layer, norm, x, *, is_after):
    layer = layer.double().eval()
    with torch.no_grad():
        expected = norm(layer(x)) if is_after else layer(norm(x))
        write(layer, *(merge_after(layer, norm) if is_after else merge_before(norm, layer)))
        torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


KINDS = {1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
         3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)}  # fmt: skip


@given(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans(), st.integers(0, 2),
       st.booleans())  # fmt: skip
def test_a_norm_after_any_convolution(axes, groups, is_transposed, bias, padding, affine):
    conv = KINDS[axes][is_transposed](4, 8, 3, groups=groups, bias=bias, padding=padding, stride=2)
    check(conv, norm_of(KINDS[axes][2], 8, affine=affine), torch.randn(2, 4, *[5] * axes).double(), is_after=True)


@given(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 4]), st.booleans())
def test_a_norm_before_a_convolution_without_zeros(axes, groups, bias):
    conv = KINDS[axes][0](4, 8, 3, groups=groups, bias=bias, padding=1, padding_mode="circular")
    check(conv, norm_of(KINDS[axes][2], 4), torch.randn(2, 4, *[5] * axes).double(), is_after=False)


@pytest.mark.parametrize("is_after", [True, False])
def test_linear_layers(is_after):
    check(nn.Linear(4, 6, bias=False), norm_of(nn.BatchNorm1d, 6 if is_after else 4), torch.randn(3, 4).double(),
          is_after=is_after)  # fmt: skip
