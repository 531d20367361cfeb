import pytest
import torch
from torch import nn

from frostline.porting.blocks import pad_same
from frostline.porting.readers.contract import SourceLayer
from frostline.porting.settings.padding import convolution, transposed


def checked(module, config, before=None, size=None):
    check = convolution("c", module, SourceLayer("f", "Conv2D", config), before, size).check
    return check.status, check.text


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [8, 9, 10])
def test_same_padding_agrees_where_the_outputs_do(kernel, stride, padding, size):
    conv = nn.Conv1d(1, 1, kernel, stride, padding, bias=False).requires_grad_(False)
    x = torch.randn(1, 1, size, generator=torch.Generator().manual_seed(0))
    wanted = nn.functional.conv1d(pad_same(x, (kernel,), (stride,), (1,)), conv.weight, stride=stride)
    found = conv(x) if size + 2 * padding >= kernel else torch.empty(0)
    is_same = found.shape == wanted.shape and bool(torch.allclose(found, wanted, atol=1e-6))
    status, text = checked(conv, {"padding": "same"}, size=[size])
    if padding == 0 and not is_same:
        assert (status, "frostline.porting.blocks.SamePad1d" in text) == ("unknown", True)
    else:
        assert status == ("agrees" if is_same else "differs"), text


def test_same_padding_of_an_unknown_size():
    assert checked(nn.Conv2d(1, 1, 3, 2, 1), {"padding": "same"})[0] == "unknown"
    assert checked(nn.Conv2d(1, 1, 3, padding=1), {"padding": "same"})[0] == "agrees"
    assert checked(nn.Conv2d(1, 1, 3, padding="same"), {"padding": "same"})[0] == "agrees"
    status, text = checked(nn.Conv2d(1, 1, (3, 5), 1, 1), {"padding": "same"})
    assert status == "differs"
    assert text.endswith("frostline.porting.blocks.SamePad2d((3, 5), 1) before it")


def test_padding_by_a_layer_of_its_own():
    zeros = SourceLayer("z", "ZeroPadding2D", {"padding": [[3, 3], [3, 3]]})
    assert checked(nn.Conv2d(1, 1, 7, 2, 3), {"padding": "valid"}, zeros)[0] == "agrees"
    assert checked(nn.Conv2d(1, 1, 7, 2, 2), {"padding": "valid"}, zeros)[0] == "differs"
    assert checked(nn.Conv2d(1, 1, 7, 2), {"padding": "valid"}, zeros)[0] == "agrees"
    assert checked(nn.Conv2d(1, 1, 7, 2, 3), {"padding": "valid"})[0] == "differs"
    one = SourceLayer("z", "ZeroPadding1D", {"padding": [1, 0]})
    assert checked(nn.Conv1d(1, 1, 3, padding=1), {}, one)[0] == "differs"


def test_causal_padding_and_other_fillings():
    assert checked(nn.Conv1d(1, 1, 3, dilation=2), {"padding": "causal"}) == (
        "unknown",
        "none in the layer, causal in the file: pad 4 values before the data only, unless the forward method does that",
    )
    assert checked(nn.Conv1d(1, 1, 3, padding=1), {"padding": "causal"})[0] == "differs"
    assert checked(nn.Conv1d(1, 1, 3, padding_mode="reflect"), {})[0] == "differs"


@pytest.mark.parametrize(
    ("options", "config", "status"),
    [
        ({"kernel_size": 3, "stride": 2}, {"padding": "valid"}, "agrees"),
        ({"kernel_size": 2, "stride": 3, "output_padding": 1}, {"padding": "valid"}, "agrees"),
        ({"kernel_size": 2, "stride": 3}, {"padding": "valid"}, "differs"),
        ({"kernel_size": 4, "stride": 2, "padding": 1}, {"padding": "same"}, "agrees"),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}, {"padding": "same"}, "differs"),
        ({"kernel_size": 3, "stride": 2}, {"padding": "same"}, "unknown"),
        ({"kernel_size": 2, "stride": 3}, {"padding": "same"}, "unknown"),
        ({"kernel_size": 3, "stride": 2}, {"padding": "same", "output_padding": 1}, "unknown"),
    ],
)
def test_the_rim_of_transposed_convolutions(options, config, status):
    check = transposed("c", nn.ConvTranspose2d(1, 1, **options), SourceLayer("f", "Conv2DTranspose", config)).check
    assert check.status == status
