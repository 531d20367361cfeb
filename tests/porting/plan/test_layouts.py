from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frostline.core.errors import AmbiguousPortError
from frostline.porting.plan.ambiguity import refuse_ambiguity
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.module_outputs import Golden
from frostline.porting.proof.trials import settle
from frostline.porting.readers.gguf import SHIFTED
from frostline.recipes.port import port
from helpers_porting import numbers, source_of


class Looks(nn.Module):
    def __init__(self):
        super().__init__()
        self.look = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.look(x, x, x)[0]


PACKED = {  # from what nn.MultiheadAttention has to what the file has
    "as it is": lambda tensor: tensor,
    "NeoX": lambda tensor: tensor.reshape(3, 2, 4, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape),
    "numbers first": lambda tensor: tensor.reshape(3, 2, 4, *tensor.shape[1:]).movedim(0, 2).reshape(tensor.shape),
}


def attention(path, name, change):
    source = Looks().eval()
    source.look.in_proj_bias.data = numbers(24)
    look = source.look
    state = {
        f"attn.{name}.weight": change(look.in_proj_weight.detach()).clone(),
        f"attn.{name}.bias": change(look.in_proj_bias.detach()).clone(),
        "attn.dense.weight": look.out_proj.weight.detach().clone(),
        "attn.dense.bias": look.out_proj.bias.detach().clone(),
    }
    save_file(state, path)
    return source


@pytest.mark.parametrize("kind", PACKED)
def test_outputs_tell_the_order_of_query_key_and_value(tmp_path, kind):
    path, x, module = tmp_path / "f.safetensors", torch.randn(3, 5, 8), Looks()
    source = attention(path, "query_key_value", PACKED[kind])
    port(path, module, golden=(x, source(x).detach()))
    assert torch.equal(module.look.in_proj_weight, source.look.in_proj_weight)
    assert torch.equal(module.look.in_proj_bias, source.look.in_proj_bias)
    with pytest.raises(
        AmbiguousPortError, match="The layout of the weights of 'look.in_proj' in the file is ambiguous"
    ):
        port(path, Looks())


def test_names_of_pytorch_and_timm_tell_it_too(tmp_path):
    module = Looks()
    source = attention(tmp_path / "f.safetensors", "qkv", PACKED["as it is"])
    port(tmp_path / "f.safetensors", module)
    assert torch.equal(module.look.in_proj_weight, source.look.in_proj_weight)


def plan(units, module, framework="torch", layers=()):
    return make_plan(source_of(framework, units, layers=layers), "file", module)


def test_the_order_in_a_product_of_onnx_is_open_too():
    units = {
        "query_key_value": {"weight": numbers(24, 8), "bias": numbers(24)},
        "dense": {"weight": numbers(8, 8), "bias": numbers(8)},
    }
    (group,) = plan(units, Looks(), "onnx", [(name, "Gemm", {"transB": 1}, ()) for name in units]).opened
    assert len(list(group.ways())) == 3


@pytest.mark.parametrize(("shape", "text"), [((8, 24), "(in, out) to (out, in)"), ((24, 8), "as it is")])
def test_layers_of_gpt2_are_turned_where_one_of_them_shows_it(shape, text):
    module = nn.Sequential(nn.Linear(8, 24, bias=False), nn.Linear(8, 8, bias=False))
    made = plan({"h/c_attn": {"weight": numbers(*shape)}, "h/c_proj": {"weight": numbers(8, 8)}}, module)
    assert {move.text() for step in made.steps for move in step.moves} == {text}
    assert not made.opened


def test_a_square_matrix_under_a_name_of_gpt2_may_lie_either_way():
    module = nn.Sequential(nn.Linear(8, 8, bias=False))
    with pytest.raises(AmbiguousPortError, match="in the file is ambiguous") as caught:
        refuse_ambiguity(plan({"h/c_proj": {"weight": numbers(8, 8)}}, module))
    assert "(in, out) to (out, in)" in caught.value.received
    assert not plan({"h/proj": {"weight": numbers(8, 8)}}, module).opened


def test_arrays_of_nobody_may_be_a_transposed_convolution_of_flax_or_of_keras(tmp_path):
    path, kernel, x = tmp_path / "f.npz", numbers(3, 3, 4, 4), torch.randn(2, 4, 5, 5)
    np.savez(path, **{"up/kernel": kernel.numpy(), "up/bias": np.zeros(4, "float32")})
    module = nn.Sequential(nn.ConvTranspose2d(4, 4, 3))
    with pytest.raises(AmbiguousPortError, match="in the file is ambiguous"):
        port(path, module)
    of_keras = kernel.permute(3, 2, 0, 1)
    port(path, module, golden=(x, nn.functional.conv_transpose2d(x, of_keras)))
    assert torch.equal(module[0].weight, of_keras)


class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0]


CELL = {"rnn/lstm_cell": {"kernel": numbers(7, 16), "bias": numbers(16, seed=2)}}
GATES = [*range(4), *range(8, 12), *range(4, 8), *range(12, 16)]  # i, j, f, o to i, f, j, o


def reads(forget):
    kernel, bias = CELL["rnn/lstm_cell"].values()
    made = Reads().eval()
    made.rnn.weight_ih_l0.data, made.rnn.weight_hh_l0.data = kernel[:3].T[GATES], kernel[3:].T[GATES]
    made.rnn.bias_ih_l0.data, made.rnn.bias_hh_l0.data = bias[GATES], torch.zeros(16)
    made.rnn.bias_hh_l0.data[4:8] = forget
    return made


@pytest.mark.parametrize(("forget", "text"), [(1.0, "the forget bias of 1, which is not stored"), (0.0, "constant 0")])
def test_outputs_tell_the_forget_bias_that_tensorflow_does_not_store(forget, text):
    x, model = torch.randn(2, 5, 3), Reads().eval()
    golden = Golden(x, (reads(forget)(x).detach(),))
    made, _ = settle(plan(CELL, model, "tensorflow"), model, [golden])
    assert [move.text() for move in made.steps[0].moves if move.target == "bias_hh"] == [text]
    assert not made.assumed


def test_without_outputs_the_usual_forget_bias_is_taken_and_listed():
    model = Reads()
    made, _ = settle(plan(CELL, model, "tensorflow"), model, [])
    (check,) = made.assumed
    assert (check.layer, check.setting, check.status) == ("rnn:l0", "forget bias", "unknown")
    assert "the forget bias of 1, which is not stored was assumed" in check.text


class OneMore(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return nn.functional.rms_norm(x, (4,), 1 + self.weight)


def test_scales_of_gemma_in_gguf_are_one_more_than_its_own_module_has_them():
    stored, x = numbers(4), torch.randn(3, 4)
    source = replace(source_of("gguf", {"blk/0/attn_norm": {"weight": stored}}), notes=(SHIFTED,))
    golden = Golden(x, (nn.functional.rms_norm(x, (4,), stored),))
    for model, text in ((OneMore(), "one less, as Gemma's modules add it"), (nn.RMSNorm(4), "as it is")):
        module = nn.Sequential(model).eval()
        made, _ = settle(make_plan(source, "file", module), module, [golden])
        assert [move.text() for step in made.steps for move in step.moves] == [text]


@pytest.mark.parametrize("is_mirrored", [True, False])
def test_a_transposed_convolution_of_flax_with_as_many_inputs_as_outputs_is_open(is_mirrored):
    kernel, x, module = numbers(3, 3, 4, 4), torch.randn(2, 4, 5, 5), nn.Sequential(nn.ConvTranspose2d(4, 4, 3))
    weight = kernel.permute(2, 3, 0, 1).flip(2, 3) if is_mirrored else kernel.permute(3, 2, 0, 1)
    source = source_of("flax", {"up": {"kernel": kernel, "bias": torch.zeros(4)}})
    plan = make_plan(source, "f", module)
    with pytest.raises(AmbiguousPortError, match="The layout of the weights of '0' in the file is ambiguous"):
        refuse_ambiguity(plan)
    settled, _ = settle(plan, module, [Golden((x,), (nn.functional.conv_transpose2d(x, weight),))])
    carry_out(settled, module)
    assert torch.equal(module[0].weight, weight)


@pytest.mark.parametrize(("shape", "text"), [((3, 3, 4, 6), "mirrored"), ((3, 3, 6, 4), "(h, w, out, in)")])
def test_another_transposed_convolution_of_the_file_shows_its_layout(shape, text):
    module = nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.ConvTranspose2d(4, 6, 3))
    units = {
        "up_0": {"kernel": numbers(3, 3, 4, 4), "bias": numbers(4)},
        "up_1": {"kernel": numbers(*shape), "bias": numbers(6)},
    }
    made = plan(units, module, "flax")
    assert not made.opened
    assert all(text in step.moves[0].text() for step in made.steps)


@pytest.mark.parametrize("framework", ["flax", "keras"])
def test_a_norm_over_maps_with_as_many_rows_and_columns_as_channels_is_open(framework):
    module, scale = nn.Sequential(nn.LayerNorm((4, 4, 4))), numbers(4, 4, 4)
    units = {
        "norm": {
            "scale" if framework == "flax" else "gamma": scale,
            "bias" if framework == "flax" else "beta": numbers(4, 4, 4),
        }
    }
    plan = make_plan(source_of(framework, units), "f", module)
    with pytest.raises(AmbiguousPortError, match="as it is; or"):
        refuse_ambiguity(plan)
    x = torch.randn(2, 4, 4, 4)
    outputs = nn.functional.layer_norm(x, (4, 4, 4), scale.movedim(2, 0), numbers(4, 4, 4).movedim(2, 0))
    settled, _ = settle(plan, module, [Golden((x,), (outputs,))])
    carry_out(settled, module)
    assert torch.equal(module[0].weight, scale.movedim(2, 0))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_stack_with_as_many_layers_as_features_is_open_and_lies_along_one_axis(axis):
    kernel, bias, x = numbers(4, 4, 4), numbers(4, 4), torch.randn(2, 4)
    module = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    units = {"fc": {"kernel": kernel, "bias": bias}}
    made = plan(units, module, "flax")
    with pytest.raises(AmbiguousPortError, match="to \\(out, in\\), then stacked along axis 0"):
        refuse_ambiguity(made)
    expected = x
    for index in range(4):
        expected = expected @ kernel.select(axis, index) + bias.select(axis, index)
    settled, _ = settle(made, module, [Golden((x,), (expected,))])
    carry_out(settled, module)
    assert torch.allclose(module(x), expected)


class Attends(nn.Module):
    def __init__(self, ours="q_proj"):
        super().__init__()
        self.embed, self.attention = nn.Embedding(5, 8), nn.Module()
        setattr(self.attention, ours, nn.Linear(8, 8, bias=False))
        self.attention.head_dim, self.ours = 4, ours

    def forward(self, tokens):
        return getattr(self.attention, self.ours)(self.embed(tokens))


HINTS = {"tok_embeddings": "embed", "layers/0/attention/wq": "attention.q_proj"}


def of_meta():
    units = {
        "tok_embeddings": {"weight": numbers(5, 8)}, "layers/0/attention/wq": {"weight": numbers(8, 8)},
        "layers/0/attention/wk": {"weight": numbers(4, 8)}, "layers/0/feed_forward/w1": {"weight": numbers(9, 8)},
    }  # fmt: skip
    return source_of("torch", units)


def test_queries_of_meta_in_a_module_that_names_them_otherwise_may_rotate_halves():
    module, rows = Attends(), [0, 2, 1, 3, 4, 6, 5, 7]
    plan = make_plan(of_meta(), "f", module, partial=True, hints=HINTS)
    (group,) = plan.opened
    assert "as it is; or as it is, then rotary pairs as halves of a head (2 heads)" in group.why
    tokens = torch.arange(5)[None]
    outputs = (numbers(5, 8) @ numbers(8, 8)[rows].T)[None]
    settled, _ = settle(plan, module, [Golden((tokens,), (outputs,))])
    carry_out(settled, module)
    assert torch.equal(module.attention.q_proj.weight, numbers(8, 8)[rows])


def test_a_module_with_meta_s_own_names_takes_rows_as_they_are():
    plan = make_plan(of_meta(), "f", Attends("wq"), partial=True)
    assert not plan.opened
    assert all("halves" not in move.text() for step in plan.steps for move in step.moves)


def test_modules_of_transformers_rotate_halves():
    class Attention(nn.Module):
        __module__ = "transformers.models.llama.modeling_llama"

    module = Attends()
    module.attention.__class__ = Attention
    plan = make_plan(of_meta(), "f", module, partial=True, hints=HINTS)
    assert not plan.opened
    assert any("halves of a head (2 heads)" in move.text() for step in plan.steps for move in step.moves)
