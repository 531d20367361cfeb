"""Packed projections and separate ones: files that `transformers` writes, into modules of another make."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frostline.core.errors import AmbiguousPortError, PortError
from frostline.porting.plan.packed_layers import as_in_module
from frostline.porting.units.unit import source_units, target_units
from frostline.recipes.port import port
from helpers_porting import numbers, source_of
from helpers_vision import import_torchvision

import_torchvision()
import transformers  # noqa: E402  # it needs torchvision


class Attention(nn.Module):
    """Separate projections, as BERT has them; with `packed` in one layer, as timm has them."""

    def __init__(self, width=12, heads=3, *, packed=False, keys=None, is_causal=False, bias=True, key_bias=True):
        super().__init__()
        self.num_heads, self.is_causal, self.width = heads, is_causal, width
        keys = keys or width
        self.sizes = (width, keys, keys)
        if packed:
            self.qkv = nn.Linear(width, sum(self.sizes), bias=bias)
        else:
            self.q_proj = nn.Linear(width, width, bias=bias)
            self.k_proj, self.v_proj = nn.Linear(width, keys, bias=bias and key_bias), nn.Linear(width, keys, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        if hasattr(self, "qkv"):
            q, k, v = self.qkv(x).split(self.sizes, -1)
        else:
            q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        size = self.width // self.num_heads
        q, k, v = (one.unflatten(-1, (-1, size)).transpose(1, 2) for one in (q, k, v))
        k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.is_causal)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, act, *, is_parallel=False, **settings):
        super().__init__()
        self.is_parallel = is_parallel
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(12), Attention(**settings), nn.LayerNorm(12)
        self.fc1, self.fc2, self.act = nn.Linear(12, 20), nn.Linear(20, 12), act

    def forward(self, x):
        first = self.attn(self.norm1(x))
        return x + first + self.fc2(self.act(self.fc1(self.norm2(x if self.is_parallel else x + first))))


class Reader(nn.Module):
    """GPT-2 and ViT of one's own make: blocks that normalise first, over numbers that were embedded elsewhere."""

    def __init__(self, act, depth=2, **settings):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(act, **settings) for _ in range(depth)))
        self.norm = nn.LayerNorm(12)

    def forward(self, x):
        return self.norm(self.blocks(x))


def drawn(model):
    """The model with numbers everywhere, also where it begins with zeros and ones."""
    generator = torch.Generator().manual_seed(0)
    for one in model.parameters():
        one.data = torch.randn(one.shape, generator=generator) / 3
    return model.eval()


def gpt2(path):
    config = transformers.GPT2Config(
        vocab_size=7, n_positions=9, n_embd=12, n_layer=2, n_head=3, n_inner=20, activation_function="gelu"
    )
    source = drawn(transformers.GPT2Model(config))
    state = {name: one.clone() for name, one in source.state_dict().items() if name[:3] not in ("wte", "wpe")}
    save_file(state, path)
    x = torch.randn(3, 5, 12)
    return x, source(inputs_embeds=x - source.wpe.weight[:5]).last_hidden_state.detach()


def test_the_packed_projection_of_gpt2_is_taken_apart_for_linear_layers(tmp_path):
    x, wanted = gpt2(tmp_path / "f.safetensors")
    module = Reader(nn.GELU(), is_causal=True).eval()
    certificate = port(tmp_path / "f.safetensors", module)
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert certificate.units()["h/1/attn/key"] == "blocks.1.attn.k_proj"
    (told,) = [one for one in certificate.mapping if one.target == "blocks.1.attn.k_proj.weight"]
    assert told.sources == ("h.1.attn.c_attn.weight[key]",)
    assert "query, key and value in this order in 'h/1/attn/c_attn'" in told.reason
    assert told.margin == 0.1  # that of its number in names, which is less than that of the order


def norms(*names):
    """Hints for the norms of a block, whose names tell nothing."""
    return {name.format(at): f"blocks.{at}.norm{index}" for at in (0, 1) for index, name in enumerate(names, 1)}


def neox(path):
    config = transformers.GPTNeoXConfig(
        vocab_size=7, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
        max_position_embeddings=9, use_parallel_residual=True, rotary_pct=0.0, rope_parameters={
            "rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.0},
    )  # fmt: skip
    source = drawn(transformers.GPTNeoXModel(config))
    save_file({n: one.clone() for n, one in source.state_dict().items() if "layers" in n or "final" in n}, path)
    x = torch.randn(3, 5, 12)
    return x, source(inputs_embeds=x).last_hidden_state.detach()


def test_outputs_tell_that_gpt_neox_packs_head_by_head_and_nothing_else_does(tmp_path):
    x, wanted = neox(tmp_path / "f.safetensors")
    settings = {"is_causal": True, "is_parallel": True}
    module = Reader(nn.GELU(), **settings).eval()
    certificate = port(tmp_path / "f.safetensors", module, golden=(x, wanted))
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert any("(heads, 3, d) of 3 heads" in one.layout for one in certificate.mapping)
    again = Reader(nn.GELU(), **settings).eval()
    port(tmp_path / "f.safetensors", again, like=certificate, hints=certificate.units())
    assert torch.equal(again(x), module(x))
    hints = norms("layers/{}/input_layernorm", "layers/{}/post_attention_layernorm")
    with pytest.raises(AmbiguousPortError, match="is ambiguous") as caught:
        port(tmp_path / "f.safetensors", Reader(nn.GELU(), **settings), hints=hints)
    assert "(heads, d, 3)" in caught.value.received


def test_separate_projections_of_a_vit_are_packed_as_timm_has_them(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, image_size=4, patch_size=2,
        num_channels=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    source = drawn(transformers.ViTModel(config, add_pooling_layer=False))
    state = {n: one.clone() for n, one in source.state_dict().items() if not n.startswith("embeddings")}
    save_file(state, tmp_path / "f.safetensors")
    module = Reader(nn.GELU(), packed=True).eval()
    hints = norms("layers/{}/layernorm_before", "layers/{}/layernorm_after")
    certificate = port(tmp_path / "f.safetensors", module, hints=hints)
    images = torch.randn(3, 1, 4, 4)
    embedded = source.embeddings(images)
    assert torch.allclose(module(embedded), source(images).last_hidden_state, atol=1e-5)
    assert any("rows query, key, value, as runs of the module show" in one.reason for one in certificate.mapping)


WIDE = {"weight": numbers(12, 12), "bias": numbers(12, seed=1)}
LONE = {"x/proj": {"weight": numbers(12, 12), "bias": numbers(12)}}


def alone(path, framework_units):
    state = {f"{unit.replace('/', '.')}.{leaf}": one.clone() for unit, leaves in framework_units.items()
             for leaf, one in leaves.items()}  # fmt: skip
    save_file(state, path)
    return path


def parts(*sizes, without=()):
    return {f"x/{role}_proj": {"weight": numbers(size, 12, seed=at)} | (
        {} if role in without else {"bias": numbers(size, seed=at)}) for at, (role, size) in enumerate(zip(
            "qkv", sizes, strict=True))} | LONE  # fmt: skip


class Holder(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.attn = Attention(**settings)

    def forward(self, x):
        return self.attn(x)


def test_fewer_heads_of_keys_and_values_are_packed_and_taken_apart_by_their_sizes(tmp_path):
    path, module = alone(tmp_path / "f.safetensors", parts(12, 4, 4)), Holder(packed=True, keys=4).eval()
    port(path, module)
    assert torch.equal(module.attn.qkv.weight[12:16], numbers(4, 12, seed=1))
    save_file({name: one.clone() for name, one in module.state_dict().items()}, tmp_path / "g.safetensors")
    apart = Holder(keys=4).eval()
    port(tmp_path / "g.safetensors", apart)
    assert torch.equal(apart.attn.v_proj.weight, numbers(4, 12, seed=2))
    assert torch.equal(apart.attn.v_proj.bias, numbers(4, seed=2))


def test_a_bias_of_keys_that_is_missing_is_zeros_in_the_packed_one_as_in_whisper(tmp_path):
    path, module = alone(tmp_path / "f.safetensors", parts(12, 12, 12, without="k")), Holder(packed=True).eval()
    port(path, module)
    assert not module.attn.qkv.bias[12:24].any()
    assert torch.equal(module.attn.qkv.bias[24:], numbers(12, seed=2))


def test_biases_beside_the_packed_matrix_as_beit_has_them(tmp_path):
    state = {"x.qkv.weight": numbers(36, 12), "x.q_bias": numbers(12), "x.v_bias": numbers(12, seed=1)}
    save_file(state | {f"x.proj.{own}": one for own, one in LONE["x/proj"].items()}, tmp_path / "f.safetensors")
    module = Holder(key_bias=False).eval()
    port(tmp_path / "f.safetensors", module)
    assert torch.equal(module.attn.v_proj.bias, numbers(12, seed=1))
    assert torch.equal(module.attn.v_proj.weight, numbers(36, 12)[24:])
    with pytest.raises(PortError, match="different numbers of layers|no partner"):
        port(tmp_path / "f.safetensors", Holder(bias=False))


def test_a_packed_bias_is_not_dropped_for_keys_without_one(tmp_path):
    path = alone(tmp_path / "f.safetensors", {"x/qkv": {"weight": numbers(36, 12), "bias": numbers(36)}} | LONE)
    with pytest.raises(PortError, match="no partner"):
        port(path, Holder(key_bias=False))


class Unnamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads = 3
        self.one, self.two, self.three, self.last = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x):
        v, q, k = (one(x).unflatten(-1, (3, 4)).transpose(1, 2) for one in (self.one, self.two, self.three))
        return self.last(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_layers_of_the_module_without_such_names_are_told_by_outputs_alone(tmp_path):
    path = alone(tmp_path / "f.safetensors", {"x/qkv": {"weight": numbers(36, 12), "bias": numbers(36)}} | LONE)
    with pytest.raises(AmbiguousPortError, match="more than one way"):
        port(path, Unnamed())
    source, x, module = Holder(packed=True).eval(), torch.randn(2, 5, 12), Unnamed().eval()
    source.attn.qkv.weight.data, source.attn.qkv.bias.data = numbers(36, 12), numbers(36)
    source.attn.proj.weight.data, source.attn.proj.bias.data = LONE["x/proj"].values()
    port(path, module, golden=(x, source(x).detach()))
    assert torch.equal(module.one.weight, numbers(36, 12)[24:])


class Interleaved(nn.Module):
    """Its packed layer has a name that means nothing, and rows (heads, d, 3)."""

    def __init__(self, *, has_norm=False):
        super().__init__()
        self.has_norm = has_norm
        self.num_heads, self.mix, self.last = 3, nn.Linear(12, 36), nn.Linear(12, 12)

    def forward(self, x):
        q, k, v = self.mix(x).unflatten(-1, (3, 4, 3)).permute(4, 0, 2, 1, 3)
        k = nn.functional.normalize(k, dim=-1) if self.has_norm else k
        return self.last(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_a_packed_layer_that_neither_name_nor_runs_tell_of_is_told_by_outputs_alone(tmp_path):
    source, other, x = Holder().eval(), Interleaved(has_norm=True).eval(), torch.randn(2, 5, 12)
    save_file(source.state_dict(), tmp_path / "f.safetensors")
    with pytest.raises(AmbiguousPortError, match="'mix' in the file is ambiguous"):
        port(tmp_path / "f.safetensors", other)
    for at, part in enumerate((source.attn.q_proj, source.attn.k_proj, source.attn.v_proj)):
        other.mix.weight.data[at::3], other.mix.bias.data[at::3] = part.weight.data, part.bias.data
    other.last.load_state_dict(source.attn.proj.state_dict())
    module = Interleaved(has_norm=True).eval()
    port(tmp_path / "f.safetensors", module, golden=(x, other(x).detach()))
    assert torch.equal(module.mix.weight, other.mix.weight)


def test_runs_show_how_a_module_reads_its_packed_layer_whatever_its_name(tmp_path):
    source, module, x = Holder().eval(), Interleaved().eval(), torch.randn(2, 5, 12)
    save_file(source.state_dict(), tmp_path / "f.safetensors")
    certificate = port(tmp_path / "f.safetensors", module)
    assert torch.allclose(module(x), source(x), atol=1e-5)
    assert any("rows (heads, d, 3) of 3 heads, as runs of the module show" in one.reason for one in certificate.mapping)


def test_layers_stay_as_they_are_where_the_module_has_no_place_for_another_form():
    units = source_units(source_of("torch", {"x/qkv": {"weight": numbers(36, 12), "bias": numbers(36)}} | LONE))
    assert as_in_module(units, target_units(Holder(packed=True))) == units
    assert as_in_module(units, target_units(nn.Sequential(nn.Linear(12, 12)))) == units
    assert len(as_in_module(units, target_units(Holder()))) == 4


FILES = Path(__file__).parents[1] / "files" / "projections"


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix, self.norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)

    def forward(self, x):
        h = self.norm(x)
        return x + self.mix(h, h, h, need_weights=False)[0]


def test_products_of_an_onnx_graph_become_the_attention_of_pytorch():
    module, golden = nn.Sequential(Mixed(), Mixed()).eval(), np.load(FILES / "separate.npz")
    certificate = port(FILES / "separate.onnx", module)
    assert np.allclose(module(torch.from_numpy(golden["inputs"])).detach(), golden["outputs"], atol=1e-5)
    assert certificate.runs[0].kind.startswith("ONNX Runtime")
    assert {one.reason for one in certificate.mapping} == {"its place in the flow of values"}
