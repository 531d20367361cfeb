import pytest
import torch
from torch import nn

from frostline.porting import blocks
from helpers_interpreting import layer, stored


def compared(file, name, module):
    """The largest difference to what Keras gave, with channels moved."""
    (x,) = layer(file, name).inputs
    with torch.no_grad():
        found = module(x.float().movedim(-1, 1)).movedim(1, -1)
    expected = stored(file)[1][f"{name}:output"]
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def weights(file, name):
    return {leaf: load().float() for leaf, load in layer(file, name).weights.items()}


@pytest.mark.parametrize("file", ["keras2", "keras3"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_pools_with_same_padding(file, axes):
    for kind, block in (("Max", f"SameMaxPool{axes}d"), ("Average", f"SameAvgPool{axes}d")):
        assert compared(file, f"{kind}{axes}_same", getattr(blocks, block)(3, 2)) <= 1e-6


@pytest.mark.parametrize("file", ["keras2", "keras3"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_with_same_padding(file, axes):
    kernel = weights(file, f"conv{axes}_same")["kernel"]
    conv = getattr(nn, f"Conv{axes}d")(*kernel.shape[-2:], 3, stride=2, bias=False)
    conv.weight.data = kernel.permute(-1, -2, *range(axes)).contiguous()
    pad = getattr(blocks, f"SamePad{axes}d")(3, 2)
    assert compared(file, f"conv{axes}_same", nn.Sequential(pad, conv)) <= 1e-5


def test_padding_follows_dilation_and_value():
    x = torch.zeros(1, 1, 5, 5)
    assert blocks.SamePad2d((3, 2), dilation=(1, 2))(x).shape == (1, 1, 7, 7)
    assert float(blocks.SamePad1d(2, value=-1.0)(torch.zeros(1, 1, 3))[0, 0, -1]) == -1
    assert blocks.SamePad2d(1)(x) is x


@pytest.mark.parametrize("file", ["keras2", "keras3"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (2, 3)])
def test_transposed_convolutions_cropped_as_same(file, kernel, stride):
    name = f"transposed1_same_{kernel}_{stride}"
    given = weights(file, name)
    conv = nn.ConvTranspose1d(4, 3, kernel, stride, output_padding=max(stride - kernel, 0))
    conv.weight.data, conv.bias.data = given["kernel"].permute(2, 1, 0).contiguous(), given["bias"]
    assert compared(file, name, nn.Sequential(conv, blocks.CropTransposed(kernel, stride))) <= 1e-5


def test_the_hard_sigmoid_of_keras_2():
    assert compared("keras2", "activation_hard_sigmoid", blocks.OldHardSigmoid()) <= 1e-6
    assert compared("keras3", "activation_hard_sigmoid", blocks.OldHardSigmoid()) > 1e-2


def test_padding_may_stand_at_the_start():
    x = torch.ones(1, 1, 4)
    assert blocks.pad_same(x, (3,), (2,), (1,)).tolist() == [[[1, 1, 1, 1, 0]]]
    assert blocks.pad_same(x, (3,), (2,), (1,), at_start=True).tolist() == [[[0, 1, 1, 1, 1]]]


def test_a_second_bias_is_added_to_the_first():
    one, two = blocks.ResetBeforeGRU(4, 3), blocks.ResetBeforeGRU(4, 3, state_bias=True)
    two.load_state_dict({**one.state_dict(), "bias": one.bias - 1, "bias_hh": torch.ones(9)})
    x = torch.linspace(-1, 1, 40).reshape(2, 5, 4)
    assert torch.allclose(one(x)[0], two(x)[0], atol=1e-6)


@pytest.mark.parametrize("file", ["keras2", "keras3"])
def test_a_gru_whose_reset_gate_acts_first(file):
    given, (x,) = weights(file, "gru_before"), layer(file, "gru_before").inputs
    block = blocks.ResetBeforeGRU(4, 3, hard_sigmoid=file == "keras2")
    if file == "keras3":
        block.gate = nn.Hardsigmoid()
    block.weight_ih.data, block.weight_hh.data = given["kernel"].T, given["recurrent_kernel"].T
    block.bias.data = given["bias"]
    with torch.no_grad():
        outputs, state = block(x.float())
    assert torch.equal(outputs[:, -1], state)
    assert float((state - stored(file)[1]["gru_before:output"]).abs().max()) <= 1e-6


@pytest.mark.parametrize("name", ["attention", "attention_cross"])
def test_attention_whose_heads_have_a_width_of_their_own(name):
    made = layer("keras3", name)
    given, inputs = weights("keras3", name), [one.float() for one in made.inputs]
    heads, key, value = (made.config[part] for part in ("num_heads", "key_dim", "value_dim"))
    query, seen = inputs[0], inputs[1]
    sizes = (query.shape[-1], inputs[-1].shape[-1], seen.shape[-1], given["attention_output/kernel"].shape[-1])
    block = blocks.WideAttention(sizes, heads, key, value, bias="query/bias" in given)
    for part in ("query", "key", "value", "attention_output"):
        own = getattr(block, part)
        own.weight.data = given[f"{part}/kernel"].reshape(own.in_features, -1).T
        if own.bias is not None:
            own.bias.data = given[f"{part}/bias"].reshape(-1)
    with torch.no_grad():
        found = block(query, inputs[-1], seen)
    assert float((found - stored("keras3")[1][f"{name}:output"]).abs().max()) <= 1e-5


def test_no_query_sees_what_comes_later():
    block, x = blocks.WideAttention(4, 2, 4), torch.ones(1, 3, 4)
    changed = x.clone()
    changed[:, 2] = 2
    with torch.no_grad():
        first, second = (block(one, one, one, is_causal=True) for one in (x, changed))
    assert torch.equal(first[:, :2], second[:, :2])


def test_blocks_say_what_they_are():
    assert "SamePad2d((3, 3), (2, 2), dilation=(1, 1), value=0)" in str(blocks.SamePad2d(3, 2))
    assert "SameMaxPool2d((3, 3), (2, 2))" in str(blocks.SameMaxPool2d(3, 2))
    assert "CropTransposed(3, 2)" in str(blocks.CropTransposed(3, 2))
    assert str(blocks.ResetBeforeGRU(4, 3)).startswith("ResetBeforeGRU(\n  4, 3")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_steps_that_do_not_count_are_passed_over(kind):
    layer = kind(3, 2, batch_first=True, bidirectional=True)
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[False, True, False, True, True], [False] * 5])
    with torch.no_grad():
        made, alone = blocks.over_steps(layer, x, mask), layer(x[:1, mask[0]])[0][0]
    assert torch.allclose(made[0, mask[0]], alone)
    assert torch.equal(made[0, 2, :2], made[0, 1, :2])  # held from the step before
    assert torch.equal(made[0, 2, 2:], made[0, 3, 2:])  # and from the one behind on the way back
    assert not made[0, 0, :2].any()
    assert not made[1].any()
    with torch.no_grad():
        zeros = blocks.over_steps(layer, x, mask, has_zeros=True)
        last = blocks.last_of_steps(layer, x, mask)
    assert not zeros[~mask].any()
    assert torch.equal(zeros[mask], made[mask])
    assert torch.equal(last, torch.cat([made[:, -1, :2], made[:, 0, 2:]], -1))


def test_the_mean_of_steps_that_count():
    x, mask = torch.tensor([[[1.0], [5.0], [9.0]]]), torch.tensor([[True, True, False]])
    assert blocks.mean_of_steps(x, mask).tolist() == [[3.0]]
    assert blocks.mean_of_steps(x, mask, keepdim=True).shape == (1, 1, 1)


def test_a_wide_attention_leaves_keys_out():
    layer = blocks.WideAttention(4, 2, 3)
    x = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    ignored = torch.tensor([[False, False, False, True, True]])
    with torch.no_grad():
        short = layer(x, x[:, :3], x[:, :3])
        assert torch.allclose(layer(x, x, x, ignored=ignored), short, atol=1e-6)
        causal = layer(x, x, x, ignored=ignored, is_causal=True)
        assert torch.allclose(causal[:, :3], layer(x, x, x, is_causal=True)[:, :3], atol=1e-6)
