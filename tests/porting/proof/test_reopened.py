"""Names that lie are found out by golden outputs, and set aside."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frostline.core.errors import PortError
from frostline.recipes.port import port
from helpers_porting import numbers


class Mine(nn.Module):
    """Layers of one shape, which only names tell apart."""

    def __init__(self, width=4, eps=1e-5):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.norm, self.out = nn.LayerNorm(width, eps=eps), nn.Linear(width, 2)

    def forward(self, x):
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.out(self.norm((q @ k.mT).softmax(-1) @ v))


def drawn(**settings):
    model = Mine(**settings).eval()
    for at, one in enumerate(model.parameters()):
        one.data = numbers(*one.shape, seed=at) - 0.5
    return model


def saved(path, model, **renamed):
    state = {name: one.clone() for name, one in model.state_dict().items()}
    named = {".".join([renamed.get(name.split(".")[0], name.split(".")[0]), name.split(".")[1]]): one
             for name, one in state.items()}  # fmt: skip
    save_file(named, path)
    return path


LIES = {"query": "value", "key": "query", "value": "key"}
X = numbers(3, 5, 4, seed=9) - 0.5


def test_names_that_lie_are_set_aside_where_golden_outputs_tell_otherwise(tmp_path):
    source, module = drawn(), Mine().eval()
    path = saved(tmp_path / "f.safetensors", source, **LIES)
    certificate = port(path, module, golden=(X, source(X).detach()))
    assert torch.equal(module.query.weight, source.query.weight)
    assert certificate.units()["value"] == "query"
    (note,) = [note for note in certificate.notes if note.startswith("Names were misleading")]
    assert "'value' is 'query'" in note
    (told,) = [one for one in certificate.mapping if one.target == "query.weight"]
    assert told.reason == "golden outputs"
    assert certificate.runs[0].alternatives > 1


def test_names_are_believed_where_outputs_agree_and_nothing_else_is_tried(tmp_path):
    source = drawn()
    path = saved(tmp_path / "f.safetensors", source)
    certificate = port(path, Mine(), golden=(X, source(X).detach()))
    assert certificate.runs[0].alternatives == 1
    assert not [note for note in certificate.notes if "misleading" in note]


def test_outputs_of_another_network_are_refused_as_before(tmp_path):
    path, module = saved(tmp_path / "f.safetensors", drawn()), Mine().eval()
    before = module.query.weight.clone()
    with pytest.raises(PortError, match="does not compute what the source network does"):
        port(path, module, golden=(X, torch.ones(3, 5, 2)))
    assert torch.equal(module.query.weight, before)


def test_a_difference_as_small_as_that_of_an_epsilon_opens_nothing(tmp_path):
    source = drawn(eps=2e-5)
    path = saved(tmp_path / "f.safetensors", source, **{})
    with pytest.raises(PortError, match="does not compute what the source network does") as caught:
        port(path, Mine(eps=1e-5), golden=(X, source(X).detach()))
    assert "assignments" not in caught.value.received


def test_hints_stay_whatever_outputs_tell(tmp_path):
    source = drawn()
    path = saved(tmp_path / "f.safetensors", source)
    with pytest.raises(PortError, match="does not compute what the source network does"):
        port(path, Mine(), hints={"query": "value"}, golden=(X, source(X).detach()))


def test_outputs_that_show_no_difference_between_assignments_settle_nothing(tmp_path):
    source, flat = drawn(), torch.zeros(1, 1, 4)
    path = saved(tmp_path / "f.safetensors", source, **LIES)
    with pytest.raises(PortError, match="does not compute what the source network does"):
        port(path, Mine().eval(), golden=(flat, source(flat).detach()))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv, self.proj = 3, nn.Linear(6, 18), nn.Linear(6, 2)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (self.num_heads, 3, 2)).permute(3, 0, 2, 1, 4)
        k = nn.functional.normalize(k, dim=-1)  # runs of the module do not show its rows then
        return self.proj((q @ k.mT).softmax(-1).matmul(v).transpose(1, 2).flatten(2))


def test_a_name_of_timm_over_rows_that_lie_head_by_head(tmp_path):
    source, module, x = Packed().eval(), Packed().eval(), torch.randn(2, 4, 6)
    weight, bias = source.qkv.weight.reshape(3, 3, 2, 6), source.qkv.bias.reshape(3, 3, 2)
    state = {f"{role}.weight": weight[:, at].reshape(6, 6).detach().clone() for at, role in enumerate("qkv")}
    state |= {f"{role}.bias": bias[:, at].reshape(6).detach().clone() for at, role in enumerate("qkv")}
    state |= {f"proj.{own}": one.detach().clone() for own, one in source.proj.named_parameters()}
    save_file(state, tmp_path / "f.safetensors")
    certificate = port(tmp_path / "f.safetensors", module, golden=(x, source(x).detach()))
    assert torch.equal(module.qkv.weight, source.qkv.weight)
    assert any("about the order of query, key and value in one matrix" in note for note in certificate.notes)
