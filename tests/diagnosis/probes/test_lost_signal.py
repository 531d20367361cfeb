import pytest
import torch
from torch import nn

from frostline.diagnosis.probes.lost_signal import facts_of_signal
from helpers_health import mlp, task


class Passes(nn.Module):
    """Two layers of 24 units, and a function between them."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second, self.function = nn.Linear(12, 24), nn.Linear(24, 24), function

    def forward(self, inputs):
        return self.second(self.function(self.first(inputs)))


def facts_of(model):
    torch.manual_seed(0)
    return facts_of_signal(model, {}, task(60))


def test_what_throws_the_targets_away_is_named():
    facts = facts_of(Passes(lambda hidden: hidden.mean(0, keepdim=True).expand_as(hidden)))
    assert facts.kept_at == "the output of layer 'first' (Linear)"
    assert facts.lost_at == "the input of layer 'second' (Linear)"
    assert facts.kept > 0.4 > 0.1 > facts.lost


def test_layers_that_keep_them_are_left_alone():
    for model in (mlp(depth=4, width=32), Passes(torch.relu), Passes(torch.tanh)):
        facts = facts_of(model)
        assert (facts.of_inputs > 0.4, facts.lost_at) == (True, "")


@pytest.mark.parametrize("scale", [0.0, 1e-9])
def test_a_linear_layer_whose_weights_let_nothing_through_is_left_to_other_rules(scale):
    model = mlp(depth=3, width=32)
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter.mul_(scale)
    assert facts_of(model).lost_at == ""


@pytest.mark.parametrize(("activation", "bias"), [(nn.ReLU(), -1e3), (nn.Sigmoid(), 1e3)])
def test_units_that_are_dead_or_saturated_are_left_to_other_rules(activation, bias):
    model = nn.Sequential(nn.Linear(12, 24), activation, nn.Linear(24, 24))
    with torch.no_grad():
        model[0].bias.fill_(bias)
    assert facts_of(model).lost_at == ""


def test_the_weights_of_before_the_training_count_and_are_taken_back():
    model = mlp(depth=3, width=32)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        model[0].weight.zero_()
    facts = facts_of_signal(model, start, task(60))
    assert facts.lost_at == ""
    assert not model[0].weight.any()


def test_inputs_that_say_nothing_and_targets_of_places_are_left_alone():
    noise = [(torch.randn(16, 12), target) for _, target in task(60)]
    assert facts_of_signal(mlp(), {}, noise) is None
    assert facts_of_signal(mlp(), {}, [(inputs, inputs) for inputs, _ in task(60)]) is None
    assert facts_of_signal(mlp(), {}, task(4)) is None


@pytest.mark.parametrize("kind", ["words", "numbers"])
def test_words_and_numbers_are_read_as_well(kind):
    words = torch.randint(9, (640, 6), generator=torch.Generator().manual_seed(0))
    target = (words[:, 2] > 4).long() if kind == "words" else words[:, 2:3].float()
    data = [(words[rows], target[rows]) for rows in torch.arange(640).split(32)]
    model = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(48, 24), nn.Tanh(), nn.Linear(24, 2))
    facts = facts_of_signal(model, {}, data)
    assert facts.of_inputs > 0.5
    assert facts.lost_at == ""
