import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline import remedies
from frostline.remedies.activations import function_names, functional_uses
from helpers_vision import import_torchvision
from remedies.surgeon import fingerprint, same, trained, undone, untouched


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)
    )


NEW = ["relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", nn.ELU, nn.ELU(alpha=0.5),
       lambda: nn.LeakyReLU(0.2)]  # fmt: skip


@pytest.mark.parametrize("new", NEW, ids=lambda new: getattr(new, "__name__", str(new)))
def test_a_swap_works_and_is_undone_to_the_bit(new):
    model, x = net(), torch.randn(3, 4)
    optimizer = trained(model, x)
    with undone(model, optimizer) as changes:
        with untouched(model):
            changes.append(remedies.swap_activations(model, nn.ReLU, new, optimizer=optimizer))
        assert changes[0].layers == ("1", "2.1")
        assert type(model[1]) is type(model[2][1])
        assert not getattr(model[1], "inplace", False)
        model(x).sum().backward()
        optimizer.step()


def test_names_and_globs_choose_the_places():
    model = net()
    assert remedies.swap_activations(model, "relu", "elu", layers=["2"]).layers == ("2.1",)
    assert isinstance(model[1], nn.ReLU)
    assert remedies.swap_activations(model, None, "gelu", layers="*1").layers == ("1", "2.1")
    assert all(isinstance(module, nn.GELU) for module in (model[1], model[2][1]))


def test_the_new_module_follows_device_dtype_mode_and_hooks():
    model, calls = net().double(), []
    model[2].eval()
    handle = model[1].register_forward_hook(lambda *_: calls.append(1))
    remedies.swap_activations(model, "relu", "prelu")
    assert model[1].weight.dtype == torch.float64
    assert [model[1].training, model[2][1].training] == [True, False]
    model(torch.randn(2, 4).double())
    handle.remove()
    model(torch.randn(2, 4).double())
    assert calls == [1]


def test_new_weights_go_to_the_group_of_the_layer_before_and_old_ones_leave():
    model = net()
    groups = [{"params": model[0].parameters()}, {"params": model[2:].parameters(), "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    remedies.swap_activations(model, "relu", "prelu", optimizer=optimizer)
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    assert id(model[1].weight) in groups[0]
    assert id(model[2][1].weight) in groups[1]
    remedies.swap_activations(model, "prelu", "relu", optimizer=optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]
    assert not remedies.swap_activations(model, "relu", "prelu", layers="1").undo()
    named = torch.optim.SGD(list(net().named_parameters()), lr=0.1)
    assert "param_names" in named.param_groups[0]


def test_named_parameters_stay_aligned():
    model = net()
    optimizer = torch.optim.SGD(list(model.named_parameters()), lr=0.1)
    remedies.swap_activations(model, "relu", "prelu", optimizer=optimizer)
    assert optimizer.param_groups[0]["param_names"][-2:] == ["1.weight", "2.1.weight"]
    remedies.swap_activations(model, "prelu", "relu", optimizer=optimizer)
    assert len(optimizer.param_groups[0]["param_names"]) == 6


def test_without_an_optimizer_the_notes_say_who_trains_the_new_weights():
    assert "no optimizer trains" in str(remedies.swap_activations(net(), "relu", "prelu"))


def test_a_shared_activation_is_swapped_once_for_all():
    act = nn.ReLU()
    model = nn.Sequential(nn.Linear(2, 2), act, nn.Linear(2, 2), act)
    change = remedies.swap_activations(model, "relu", "prelu", layers=["3"])
    assert change.layers == ("1",)
    assert model[1] is model[3]
    assert len(list(model.parameters())) == 5


def test_frozen_activations_are_only_swapped_by_name():
    model = net()
    fl.freeze(model, through="1")
    change = remedies.swap_activations(model, "relu", "prelu")
    assert change.layers == ("2.1",)
    assert "1: frozen, left alone" in change.notes[0]
    remedies.swap_activations(model, "relu", "prelu", layers=["1"])
    model.train()
    assert not model[1].training
    assert not model[1].weight.requires_grad


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.relu, self.act = nn.Linear(4, 4), nn.Linear(4, 4), nn.ReLU(), F.relu

    def forward(self, x):
        x = F.relu(self.a(x))
        x = self.relu(self.act(self.b(x)))
        return nn.ReLU()(torch.relu(x.relu()))


def test_functions_are_named_where_they_are_called():
    model = Functional()
    with undone(model) as changes:
        changes.append(remedies.swap_activations(model, "relu", "tanh"))
        assert changes[0].layers == ("relu", "act")
        assert isinstance(model.act, nn.Tanh)
        text = str(changes[0])
        for call in ("F.relu", "torch.relu", "x.relu", "nn.ReLU()"):
            assert f"the model: calls {call} at test_activations.py:" in text
        assert "self.relu" not in text
        model(torch.randn(2, 4))
    assert model.act is F.relu


def test_classes_without_source_are_said():
    made = type("Hidden", (nn.Module,), {"forward": lambda self, x: x})
    change = remedies.swap_activations(nn.Sequential(made()), "relu", "elu")
    assert "source of Hidden cannot be read" in str(change)
    assert "ReLU: no such module" in str(change)
    assert change.layers == ()


@pytest.mark.parametrize("given", ["relu", F.gelu, nn.ReLU()], ids=str)
def test_encoder_layers_take_the_new_activation_on_the_fast_path_too(given):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation=given, batch_first=True, dropout=0.0)
    decoder = nn.TransformerDecoderLayer(8, 2, 16, activation=copy.deepcopy(given))
    model = nn.ModuleList([layer, decoder])
    old = "gelu" if given is F.gelu else "relu"
    with undone(model) as changes:
        number = layer.activation_relu_or_gelu
        changes.append(remedies.swap_activations(model, old, "tanh"))
        assert changes[0].layers == ("0.activation", "1.activation")
        x = torch.randn(2, 3, 8)
        slow = layer(x)
        with torch.no_grad():
            torch.testing.assert_close(layer.eval()(x), slow)
        remedies.swap_activations(model, "tanh", "gelu")
        assert layer.activation_relu_or_gelu == 2
    assert layer.activation_relu_or_gelu == number


def test_activations_inside_torch_layers_are_noted():
    model = nn.ModuleList([nn.RNN(2, 2), nn.LSTM(2, 2), nn.RNN(2, 2, nonlinearity="relu"), nn.MultiheadAttention(4, 2)])
    assert "0: nn.RNN computes its Tanh inside" in str(remedies.swap_activations(model, "tanh", "relu"))
    assert "1: nn.LSTM computes its Tanh inside" in str(remedies.swap_activations(model, "tanh", "relu"))
    assert "2: nn.RNN computes its ReLU inside" in str(remedies.swap_activations(model, "relu", "elu"))
    assert "3: nn.MultiheadAttention computes its Softmax" in str(remedies.swap_activations(model, nn.Softmax, "relu"))


def test_relu6_is_not_the_hardtanh_it_inherits_from():
    model = nn.Sequential(nn.ReLU6(), nn.Hardtanh())
    assert remedies.swap_activations(model, nn.Hardtanh, "relu").layers == ("1",)


@pytest.mark.filterwarnings("ignore")
def test_a_fused_batchnorm_of_timm_survives():
    import_torchvision()
    import timm

    model = timm.create_model("mobilenetv3_small_100", pretrained=False).eval()
    norm = model.blocks[0][0].bn1
    with undone(model) as changes:
        changes.append(remedies.swap_activations(model, "relu", "leaky_relu"))
        assert model.blocks[0][0].bn1 is norm
        assert isinstance(norm.act, nn.LeakyReLU)
        assert "blocks.0.0.bn1.act" in changes[0].layers


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(fl.DataError, match="no activation named 'rellu'"):
        remedies.swap_activations(net(), "rellu", "elu")
    with pytest.raises(fl.DataError, match="no activation named"):
        remedies.swap_activations(net(), nn.ReLU(), "elu")
    with pytest.raises(fl.DataError, match="new activation is not a module"):
        remedies.swap_activations(net(), "relu", lambda: F.relu)
    with pytest.raises(fl.DataError, match="No activation to swap was named"):
        remedies.swap_activations(net(), None, "elu")
    with pytest.raises(fl.LayerNotFound, match="no layer named '7'"):
        remedies.swap_activations(net(), "relu", "elu", layers=["7"])
    assert "nothing holds" in str(remedies.swap_activations(nn.ReLU(), "relu", "elu"))


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_layer_has_to_be_run_first():
    with pytest.raises(fl.DataError, match="layer whose shape is not known yet"):
        remedies.swap_activations(nn.Sequential(nn.LazyLinear(2), nn.ReLU()), "relu", "elu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what it deprecates
def test_a_factory_that_fails_on_the_way_leaves_the_model_as_it_was():
    made = iter([nn.ELU(), nn.ELU()])
    model = net()
    before = fingerprint(model)
    with pytest.raises(StopIteration):
        remedies.swap_activations(model, "relu", lambda: next(made))
    assert same(fingerprint(model), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler uses what it deprecates
def test_a_compiled_model_is_refused():
    with pytest.raises(fl.DataError, match="compiled model cannot be changed in place"):
        remedies.swap_activations(torch.compile(net()), "relu", "elu")


class Base(nn.Module):
    def helper(self, x):
        return x.sigmoid()


class Net(Base):
    def __init__(self):
        super().__init__()
        self.gelu = nn.GELU()

    def forward(self, x):
        return F.gelu(self.gelu(self.helper(x))) + torch.tanh(x)


def test_calls_are_found_in_the_class_and_its_bases():
    def uses(kind):
        return [note.split(" at ")[0] for _, note in functional_uses(nn.Sequential(Net()), kind)]

    assert uses(nn.GELU) == ["calls F.gelu"]
    assert uses(nn.Sigmoid) == ["calls x.sigmoid"]
    assert uses(nn.Tanh) == ["calls torch.tanh"]
    assert uses(nn.ReLU) == []


def test_functions_have_their_in_place_twins():
    assert function_names(nn.ReLU) == {"relu", "relu_"}
