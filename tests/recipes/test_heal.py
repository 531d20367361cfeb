import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import frostline as fl
from frostline.recipes.heal import heal

CLASSES, FEATURES = 3, 2


def rows(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return centres[target] + 0.6 * torch.randn(count, FEATURES, generator=generator), target


def batches(count=120, size=32, scale=1.0):
    x, y = rows()
    generator = torch.Generator().manual_seed(1)
    chosen = [torch.randint(0, len(x), (size,), generator=generator) for _ in range(count)]
    return [(scale * x[at], y[at]) for at in chosen]


def mlp(activation=nn.ReLU, depth=3, width=32):
    layers = [nn.Linear(FEATURES, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def sgd(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def accuracy(model):
    x, y = rows(seed=7)
    with torch.no_grad():
        return float((model.eval()(x).argmax(1) == y).float().mean())


LOSS = nn.CrossEntropyLoss()


def test_a_healthy_network_is_trained_and_left_as_it_is():
    model = mlp()
    optimizer = sgd(model)
    modules, first = list(model.modules()), model[0].weight.detach().clone()
    healing = heal(model, batches(), LOSS, optimizer)
    assert not healing.accepted
    assert list(model.modules()) == modules
    assert not torch.equal(model[0].weight, first)
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert healing.before.cause is None
    assert accuracy(model) > 0.9


def test_a_tip_of_a_network_that_learns_is_left_alone():
    model = mlp()
    shifted = [(inputs + 5.0, target) for inputs, target in batches()]
    healing = heal(model, shifted, LOSS, sgd(model))
    assert [finding.outcome for finding in healing.before.findings if finding.code == "FL501"] == ["tip"]
    assert (healing.accepted, healing.treatments) == (False, ())
    assert healing.loss_after < 0.5 * math.log(CLASSES)


def test_a_deep_sigmoid_network_is_cured_in_place():
    model = mlp(nn.Sigmoid, depth=8)
    healing = heal(model, batches(), LOSS, sgd(model))
    assert healing.accepted
    assert healing.before.cause == "vanishing"
    kept = [treatment for treatment in healing.treatments if treatment.kept]
    assert len(kept) == 1
    assert all("rolled back" in treatment.why for treatment in healing.treatments if not treatment.kept)
    assert healing.loss_after < 0.5 * healing.loss_before
    assert accuracy(model) > 0.9


def test_inputs_are_scaled_inside_of_the_model():
    model = mlp()
    optimizer = sgd(model)
    healing = heal(model, batches(scale=200.0), LOSS, optimizer)
    assert healing.accepted
    assert healing.before.cause == "input_scale"
    x, y = rows(seed=7)
    assert float((model.eval()(200.0 * x).argmax(1) == y).float().mean()) > 0.9
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters()}


def test_the_model_and_the_optimizer_can_go_on():
    model = mlp()
    optimizer = sgd(model, lr=1e-5)
    healing = heal(model, batches(), LOSS, optimizer)
    assert healing.before.cause == "learning_rate"
    assert optimizer.param_groups[0]["lr"] > 1e-4
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for inputs, target in batches(5):
        optimizer.zero_grad()
        LOSS(model(inputs), target).backward()
        optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_steps_that_are_not_finite_are_left_out_and_counted():
    data = batches()
    data[60][0][3, 0] = math.nan
    model = mlp()
    healing = heal(model, data, LOSS, sgd(model))
    assert healing.accepted
    assert [t.why for t in healing.treatments if t.family == "nonfinite"] == ["1 steps were left out."]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert accuracy(model) > 0.9


def test_a_loss_that_does_not_fit_is_advice_only():
    model = mlp()
    healing = heal(model, batches(40), lambda output, target: LOSS(output.softmax(1), target), sgd(model))
    assert not healing.accepted
    assert healing.treatments == ()
    assert any(finding.code == "FL503" for finding in healing.before.findings)


def test_the_callers_generators_are_left_alone():
    model = mlp()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    heal(model, batches(40), LOSS, sgd(model))
    assert torch.equal(torch.rand(1), expected)


def test_a_single_batch_is_not_enough():
    model = mlp()
    with pytest.raises(fl.DataError, match="There are too few batches"):
        heal(model, batches(1), LOSS, sgd(model))


def test_a_threshold_for_gradients_stays_with_the_optimizer():
    data = batches()
    for at in range(3, len(data), 20):
        data[at][0][0] *= 1e4  # another unit
    model = mlp()
    optimizer = sgd(model)
    heal(model, data, LOSS, optimizer)
    for inputs, target in batches(3):
        optimizer.zero_grad()
        LOSS(model(inputs), target).backward()
        optimizer.step()  # a hook that returns something would raise here
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_steps_that_are_not_finite_are_left_out_in_trials_and_afterwards():
    data = batches()
    data[5][0][3, 0] = math.nan  # in the probe
    model = mlp()
    optimizer = sgd(model)
    healing = heal(model, data, LOSS, optimizer)
    kept = [treatment for treatment in healing.treatments if treatment.kept]
    assert {treatment.family for treatment in kept} == {"nonfinite"}
    assert "1 steps were left out." in [treatment.why for treatment in kept]
    optimizer.zero_grad()
    LOSS(model(data[5][0]), data[5][1]).backward()
    optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert accuracy(model) > 0.9


def test_a_treatment_that_leaves_the_issue_standing_is_rolled_back(monkeypatch):
    healing_module = sys.modules["frostline.recipes.heal"]
    original = healing_module.judge

    def stubborn(evidence):
        found = original(evidence)
        issue = next(f for f in heal_before.findings if f.code == "FL101")
        return replace(found, findings=(issue, *found.findings))

    model = mlp(nn.Sigmoid, depth=8)
    model = mlp(nn.Sigmoid, depth=8)
    heal_before = heal(model, batches(), LOSS, sgd(model)).before
    monkeypatch.setattr(healing_module, "judge", stubborn)
    model = mlp(nn.Sigmoid, depth=8)
    healing = heal(model, batches(), LOSS, sgd(model))
    assert not healing.accepted
    assert any(treatment.issues == ("FL101",) for treatment in healing.treatments)
    assert any("FL101 stands or is new" in treatment.why for treatment in healing.treatments)


def test_a_pruned_network_is_cured_and_stays_pruned():
    model = mlp(nn.Sigmoid, depth=8)
    prune.l1_unstructured(model[2], "weight", 0.3)
    assert heal(model, batches(), LOSS, sgd(model)).accepted
    assert accuracy(model) > 0.9
    layer = next(module for module in model.modules() if hasattr(module, "weight_mask"))
    assert bool((layer.weight[layer.weight_mask == 0] == 0).all())
