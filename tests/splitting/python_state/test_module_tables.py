import copy

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_vision import import_torchvision


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.1)
        self.activation = torch.tanh
        self.middle, self.out = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 2)

    def forward(self, inputs):
        return self.out(self.middle(self.shaped(self.activation(self.drop(self.norm(self.low(inputs)))))))

    def shaped(self, hidden):
        return 2 * hidden


class Stepping(Model):
    """No graph holds: it takes as many steps as its batch has rows."""

    def forward(self, inputs):
        hidden = self.norm(self.low(inputs))
        for _ in range(len(inputs)):
            hidden = self.middle(hidden)
        return self.out(hidden)


def made(kind=Model):
    torch.manual_seed(0)
    model = kind()
    fl.freeze(model, modules=[model.low, model.norm])
    return model, fl.split(model, torch.randn(8, 4))


def twice(module, inputs, output):
    return 2 * output


REFUSED = {
    "out": lambda m: setattr(m, "out", nn.Linear(4, 2)),
    "middle": lambda m: setattr(m, "middle", nn.Sequential(m.middle, nn.Tanh())),
    "low": lambda m: setattr(m, "low", copy.deepcopy(m.low)),
    "added": lambda m: m.add_module("added", nn.Linear(2, 2)),
    "forward_hook number 0": lambda m: m.register_forward_hook(twice),
    "forward_pre_hook number 0": lambda m: m.register_forward_pre_hook(lambda own, inputs: inputs),
    "low.forward_hook number 0": lambda m: m.low.register_forward_hook(twice),
    "low.backward_hook number 0": lambda m: m.low.register_full_backward_hook(lambda *_: None),
    "forward": lambda m: setattr(m, "forward", lambda inputs: m.out(m.low(inputs))),
    "low.forward": lambda m: setattr(m.low, "forward", lambda inputs: inputs),
    "activation": lambda m: setattr(m, "activation", torch.relu),
    "shaped": lambda m: setattr(m, "shaped", torch.relu),
    "norm.eps": lambda m: setattr(m.norm, "eps", 1.0),
}
FOLLOWED = {
    "a hook on a trainable layer": lambda m: m.middle.register_forward_hook(twice),
    "a trainable layer that changes inside": lambda m: m.middle.append(nn.Tanh()),
    "weights of the trainable part": lambda m: m.out.weight.data.zero_(),
    "nothing": lambda m: None,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_head_cannot_follow_is_refused_by_name(name):
    model, split = made()
    split.check_weights()
    REFUSED[name](model)
    with pytest.raises(fl.SplitError, match="was changed after it was split") as error:
        split.check_weights()
    assert error.value.where == name


def test_a_method_that_is_replaced_in_the_class_is_refused(monkeypatch):
    _, split = made()
    monkeypatch.setattr(Model, "shaped", lambda self, hidden: hidden)
    with pytest.raises(fl.SplitError, match="'shaped' is not what the head was made from"):
        split.check_weights()


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_the_head_follows_is_taken(name):
    model, split = made()
    FOLLOWED[name](model)
    split.check_weights()
    model.eval(), split.head.eval()
    inputs = torch.randn(5, 4)
    assert torch.allclose(split.head(*split.extract(inputs)), model(inputs), atol=1e-6)


@pytest.mark.parametrize("kind", [Model, Stepping])
def test_a_frozen_layer_is_watched_whatever_the_head_runs(kind):
    model, split = made(kind)
    model.low.register_forward_hook(twice)
    with pytest.raises(fl.SplitError, match=r"'low\.forward_hook number 0'"):
        split.check_weights()


def test_a_head_that_runs_the_own_forward_follows_the_other_layers():
    model, split = made(Stepping)
    model.register_forward_hook(twice)
    split.check_weights()
    inputs = torch.randn(8, 4)
    model.eval(), split.head.eval()
    assert torch.allclose(split.head(*split.extract(inputs)), model(inputs), atol=1e-6)


def test_hooks_of_a_monitor_are_no_change():
    model, split = made()
    with fl.Monitor(model, torch.optim.SGD(split.head.parameters(), lr=0.1)):
        split.check_weights()


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return torch.relu(self.norm(self.linear(x)))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("line", ["0", "1"])
def test_scripts_have_a_table_of_their_own_kind(line):
    model = nn.Sequential(torch.jit.script(Scripted()), torch.jit.script(Scripted()), nn.Linear(4, 2))
    fl.freeze(model, through=line)
    split = fl.split(model, torch.randn(8, 4))
    split.check_weights()
    model[2] = nn.Linear(4, 2)
    with pytest.raises(fl.SplitError, match="was changed after it was split"):
        split.check_weights()


def test_hooks_that_a_model_of_transformers_registers_in_its_first_call_are_no_change():
    import_torchvision()
    transformers = pytest.importorskip("transformers")
    config = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(4, 4), conv_kernel=(4, 4), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        vocab_size=8, layerdrop=0.0, apply_spec_augment=False, num_feat_extract_layers=2, classifier_proj_size=8,
    )  # fmt: skip
    model = transformers.HubertForSequenceClassification(config)
    fl.freeze(model, through="hubert.encoder.layers.0")
    sounds = torch.randn(4, 400)
    split = fl.split(model, sounds)
    model.eval()
    expected = model(sounds).logits  # the first whole call
    split.head.eval()
    assert torch.allclose(split.head(*split.extract(sounds)).logits, expected, atol=1e-5)
    split.check_weights()
