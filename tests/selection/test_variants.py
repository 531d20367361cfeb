import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.selection.variants import (
    LinearAfterDropout,
    dropout_layers,
    find_output_layer,
    hidden_layer,
    with_dropout,
    with_module,
)
from frostline.training import output_of
from helpers_sweep import C, H, batch


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(H, H)

    def forward(self, x):
        return self.layer(F.relu(self.layer(x)))


def found(head):
    return find_output_layer(head, batch()[0], output_of)


def test_the_output_layer_is_the_one_whose_output_is_the_heads():
    layer = found(nn.Sequential(nn.Linear(H, 8), nn.ReLU(), nn.Linear(8, C), nn.Identity()))
    assert (layer.name, layer.is_all, tuple(layer.inputs.shape)) == ("2", False, (16, 8))
    assert found(nn.Linear(H, C)).name == ""
    assert found(nn.Sequential(nn.Dropout(), nn.Linear(H, C))).is_all


def test_the_logits_of_a_container_count():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(H, C)

        def forward(self, x):
            return {"logits": self.out(x)}

    assert found(Named()).name == "out"


def test_there_may_be_none():
    hooked = nn.Linear(H, C)
    hooked.register_forward_hook(lambda *_: None)
    frozen = nn.Sequential(nn.Linear(H, 8), nn.Linear(8, C))
    frozen[1].requires_grad_(False)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(H, C))
    for head in (Twice(), nn.Sequential(nn.Linear(H, C), nn.Softmax(1)), hooked, frozen, normed):
        assert found(head) is None


def test_finding_it_changes_nothing():
    head = nn.Sequential(nn.BatchNorm1d(H), nn.Dropout(), nn.Linear(H, C)).train()
    state, seed = {k: v.clone() for k, v in head.state_dict().items()}, torch.get_rng_state()
    found(head)
    assert all(torch.equal(v, state[k]) for k, v in head.state_dict().items())
    assert torch.equal(torch.get_rng_state(), seed)
    assert head[0].training
    assert not head[2]._forward_hooks


def test_dropout_goes_into_the_heads_own_layers_or_before_its_output():
    own = nn.Sequential(nn.Dropout(0.1), nn.Linear(H, 8), nn.Dropout2d(0.2), nn.Linear(8, C))
    with_dropout(own, 0.7, None)
    assert [layer.p for layer in dropout_layers(own).values()] == [0.7, 0.7]
    plain = nn.Sequential(nn.Linear(H, C))
    names = [*plain.state_dict()]
    noisy = with_dropout(plain, 0.7, found(plain))
    assert [*noisy.state_dict()] == names
    (h_BH,), _ = batch()
    torch.manual_seed(2)
    seen = noisy.train()(h_BH)
    torch.manual_seed(2)
    assert torch.equal(seen, F.linear(F.dropout(h_BH, 0.7), *noisy[0].parameters()))
    assert torch.equal(noisy.eval()(h_BH), F.linear(h_BH, *noisy[0].parameters()))
    assert isinstance(noisy[0], LinearAfterDropout)


def test_a_head_without_a_place_for_dropout_is_refused():
    with pytest.raises(fl.DataError, match="This head has no place for dropout"):
        with_dropout(nn.Sequential(nn.Linear(H, C), nn.Softmax(1)), 0.5, None)


def test_a_hidden_layer_has_the_sizes_of_the_old_one():
    old = nn.Linear(H, C, bias=False).double().eval()
    torch.manual_seed(9)
    wanted = torch.rand(1)
    torch.manual_seed(9)
    new = hidden_layer(old, 5, 0.5, seed=3)
    assert torch.equal(torch.rand(1), wanted)
    assert [type(layer) for layer in new] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert (new[0].in_features, new[0].out_features, new[3].out_features, new[3].bias) == (H, 5, C, None)
    assert new[0].weight.dtype == torch.float64
    assert not new.training
    assert torch.equal(new[0].weight, hidden_layer(old, 5, 0.0, seed=3)[0].weight)
    assert not torch.equal(new[0].weight, hidden_layer(old, 5, 0.0, seed=4)[0].weight)


def test_a_module_is_put_under_its_name():
    head, new = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Linear(H, C))), nn.Identity()
    assert with_module(head, "0.1", new) is head
    assert head[0][1] is new
    assert with_module(head, "", new) is new
