import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.outside import facts_of_outside
from helpers_health import CLASSES, FEATURES, mlp, task
from remedies.surgeon import fingerprint, same


class Listed(nn.Module):
    def __init__(self, container):
        super().__init__()
        self.layers = container([nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 8)])
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Anew(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(nn.Linear(FEATURES, 8)(x))


class AsksForASlope(nn.Module):
    """As networks of physics do: the loss takes derivatives by the inputs."""

    def __init__(self):
        super().__init__()
        self.head, self.noise = nn.Linear(FEATURES, CLASSES), nn.Dropout(0.5)

    def forward(self, x):
        x = self.noise(x).detach().requires_grad_()
        return self.head(x)


def facts(model, loss_fn=F.cross_entropy, held=None):
    return facts_of_outside(model, task(1)[0], loss_fn, list(model.parameters()) if held is None else held)


def test_layers_in_a_list_are_not_in_the_model():
    assert facts(Listed(nn.ModuleList)) == facts(mlp())
    found = facts(Listed(list))
    assert sorted(found.lasting) == [(8,), (8,), (8, 8), (8, FEATURES)]
    assert not found.made_anew


def test_layers_that_are_made_in_forward_are_new_each_time():
    found = facts(Anew())
    assert sorted(found.made_anew) == [(8,), (8, FEATURES)]
    assert not found.lasting


def test_inputs_that_ask_for_gradients_are_no_layers():
    found = facts(AsksForASlope().train())
    assert (found.lasting, found.made_anew) == ((), ())


def test_what_the_optimizer_holds_trains():
    centres = nn.Parameter(torch.zeros(CLASSES))

    def loss_fn(output, target):
        return F.cross_entropy(output + centres, target)

    model = mlp()
    assert (facts(model, loss_fn).lasting, facts(model, loss_fn).in_loss) == ((), ((CLASSES,),))
    assert facts(model, loss_fn, held=[*model.parameters(), centres]).in_loss == ()


def test_the_model_is_left_as_it_was():
    model = Anew().train()
    before, state = fingerprint(model), torch.get_rng_state()
    facts(model)
    assert same(fingerprint(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
