import pytest
from torch import nn
from torch.nn.utils import parametrizations

from frostline.diagnosis.monitor.layers import find_layers, kind_of


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize(
    ("module", "kind"),
    [(nn.Linear(2, 2), "linear"), (nn.ConvTranspose1d(2, 2, 1), "convolution"), (nn.GRU(2, 2), "recurrent"),
     (nn.LSTMCell(2, 2), "recurrent"), (nn.MultiheadAttention(2, 1), "attention"), (nn.Embedding(2, 2), "embedding"),
     (nn.RMSNorm(2), "norm"), (nn.InstanceNorm1d(2), "norm"), (nn.Dropout(), "other"), (nn.ReLU6(), "activation")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_kinds(module, kind):
    assert kind_of(module)[0] == kind


def test_a_subclass_of_an_activation_may_compute_something_else():
    class Shifted(nn.ReLU):
        pass

    assert kind_of(Shifted()) == ("other", "")


def test_containers_are_no_layers_and_names_are_qualified():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Dropout()))
    assert [(f.layer.name, f.layer.kind, f.layer.activation) for f in find_layers(model)] == [
        ("0.0", "linear", ""), ("0.1", "activation", "tanh"),
    ]  # fmt: skip
    assert [f.layer.name for f in find_layers(nn.Linear(2, 2))] == ["(the model)"]


def test_tied_weights_belong_to_the_first_and_are_not_frozen_elsewhere():
    embed, head = find_layers(Tied())
    assert len(embed.parameters) == 1
    assert head.parameters == ()
    assert not head.layer.is_frozen


def test_frozen_layers_and_attention_as_one():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.MultiheadAttention(2, 1))
    frozen, attention, inner = find_layers(model)
    assert frozen.layer.is_frozen
    assert frozen.parameters == ()
    assert len(attention.parameters) == 4
    assert inner.parameters == ()


def test_weights_behind_a_parametrization_belong_to_their_layer():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2)), nn.ReLU())
    layer, _ = find_layers(model)
    assert (layer.layer.name, layer.layer.kind) == ("0", "linear")
    assert {id(p) for p in layer.parameters} == {id(p) for p in model.parameters()}
    model.requires_grad_(False)
    assert find_layers(model)[0].layer.is_frozen
