import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.diagnosis.experiments.runner import watched
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
VANISHING = fl.Finding("FL101", "vanishing gradients", "vanishing", None, "issue", None, None, "as before.", "wait.")


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


def test_a_tip_of_a_network_that_does_as_well_without_is_left_alone():
    model = mlp()
    data = batches(scale=4.0)
    healing = heal(model, data, LOSS, sgd(model))
    assert [finding.outcome for finding in healing.before.findings if finding.code == "FL501"] == ["tip"]
    assert not healing.accepted
    assert all("rolled back" in treatment.why for treatment in healing.treatments)
    assert healing.loss_after < 0.5 * math.log(CLASSES)


def test_a_deep_sigmoid_network_is_cured_in_place():
    model = mlp(nn.Sigmoid, depth=8)
    healing = heal(model, batches(), LOSS, sgd(model))
    assert healing.accepted
    assert healing.before.cause == "vanishing"
    kept = [treatment for treatment in healing.treatments if treatment.kept]
    assert kept[0].family == "vanishing"
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
    assert [t.why for t in healing.treatments if t.family == "nonfinite"] == ["1 of 96 steps were left out."]
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
    assert "1 of 96 steps were left out." in [treatment.why for treatment in kept]
    optimizer.zero_grad()
    LOSS(model(data[5][0]), data[5][1]).backward()
    optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert accuracy(model) > 0.9


def test_a_treatment_that_leaves_the_issue_standing_is_rolled_back(monkeypatch):

    def stubborn(one, *args, **options):
        found = watched(one, *args, **options)
        return replace(found, findings=(VANISHING, *found.findings))

    monkeypatch.setattr("frostline.diagnosis.experiments.race.watched", stubborn)
    model = mlp(nn.Sigmoid, depth=8)
    healing = heal(model, batches(), LOSS, sgd(model))
    assert not healing.accepted
    assert any(treatment.issues == ("FL101",) for treatment in healing.treatments)
    assert any("FL101 was still found, or is new" in treatment.why for treatment in healing.treatments)


def test_a_network_that_breaks_down_later_is_taken_back_and_treated_there():
    torch.manual_seed(0)
    model = mlp(nn.Sigmoid, depth=8)
    optimizer = sgd(model)
    healing = heal(model, batches(), LOSS, optimizer)
    first, second = [treatment for treatment in healing.treatments if treatment.kept]
    assert (first.family, second.family) == ("vanishing", "learning_rate")  # it learns then, and too fast
    assert "untreated after 15 steps" in second.why
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert accuracy(model) > 0.9
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


def test_a_network_that_gives_no_numbers_is_raced_once_and_nothing_is_claimed():
    model = mlp()
    model.append(type("Over", (nn.Module,), {"forward": lambda _, x: x / 0})())
    healing = heal(model, batches(), LOSS, sgd(model))
    names = [treatment.name for treatment in healing.treatments if treatment.family != "nonfinite"]
    assert len(names) == len(set(names))
    assert not healing.accepted
    assert healing.treatments[-1].why == "96 of 96 steps were left out."
    assert not any("ahead" in treatment.why for treatment in healing.treatments)


def test_who_is_rolled_back_is_told_why():
    for model, data in ((mlp(nn.Sigmoid, depth=8), batches()), (mlp(), batches(scale=4.0))):
        healing = heal(model, data, LOSS, sgd(model))
        rolled = [treatment.why for treatment in healing.treatments if not treatment.kept]
        assert rolled
        assert all(";" in why or "cannot be done" in why for why in rolled)


def test_what_was_not_looked_at_is_not_said_to_be_gone():
    model = mlp()
    healing = heal(model, batches(scale=200.0), LOSS, sgd(model))
    (kept,) = [treatment for treatment in healing.treatments if treatment.kept]
    assert kept.family == "input_scale"
    assert "the rules find no issue" not in kept.why


def test_a_network_that_cannot_be_helped_is_trained_to_the_end():
    model = mlp()
    noise = [(inputs, torch.randint(0, CLASSES, (len(inputs),))) for inputs, _ in batches()]
    healing = heal(model, noise, LOSS, sgd(model))
    assert not healing.accepted
    assert healing.loss_after == healing.loss_after


def test_a_first_batch_that_is_not_finite_does_not_stop_a_cure_of_the_inputs():
    data = batches(scale=200.0)
    data[0] = (torch.full_like(data[0][0], math.nan), data[0][1])
    model = mlp()
    healing = heal(model, data, LOSS, sgd(model))
    assert healing.accepted
    assert healing.loss_after < 0.5 * math.log(CLASSES)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("count", [2, 3, 5, 8, 12, 17, 23, 40])
def test_few_batches_are_trained_on_and_nothing_is_claimed_of_them(count):
    model = mlp(nn.Sigmoid, depth=8)
    healing = heal(model, batches(count), LOSS, sgd(model))
    assert not healing.accepted or count > 10
    assert healing.loss_after == healing.loss_after


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x):
        return {"logits": self.body(x)}


def test_answers_by_name_are_known_to_learn():
    model = Named()
    healing = heal(model, batches(), lambda output, target: LOSS(output["logits"], target), sgd(model))
    assert not healing.accepted
    assert accuracy(model.body) > 0.9


def test_a_loss_below_zero_is_judged_as_any_other():
    model = mlp()
    healing = heal(model, batches(), lambda output, target: LOSS(output, target) - 5.0, sgd(model))
    assert not healing.accepted
    assert healing.loss_after < -4.5


class NoisyInEval(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.kept = mlp(), nn.Parameter(torch.zeros(1), requires_grad=False)
        self.register_buffer("mean", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
        return self.body(x) + 1e-3 * torch.randn(())

    def state_dict(self, *args, **kwargs):
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "kept" not in name}


def test_all_of_a_model_is_handed_over_and_nothing_else_is_touched():
    model = NoisyInEval()
    model.body[0].weight.grad = torch.ones_like(model.body[0].weight)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    heal(model, batches(), lambda out, y: LOSS(out, y) + 1e-4 * model.body[0].weight.square().sum(), sgd(model))
    assert torch.equal(torch.rand(2), expected)
    assert float(model.mean.abs()) > 0.0  # it is in no state dict
    assert torch.equal(model.body[0].weight.grad, torch.ones_like(model.body[0].weight))


def test_an_optimizer_that_needs_a_closure_is_refused():
    model = mlp()
    with pytest.raises(fl.DataError, match="The optimizer needs a closure"):
        heal(model, batches(40), LOSS, torch.optim.LBFGS(model.parameters()))


def test_a_kept_rate_is_where_a_schedule_starts_from():
    torch.manual_seed(0)
    model = mlp()
    optimizer = sgd(model, lr=1.0)
    torch.optim.lr_scheduler.StepLR(optimizer, 10)
    assert heal(model, batches(), LOSS, optimizer).before.cause == "learning_rate"
    assert [optimizer.param_groups[0][name] for name in ("lr", "initial_lr")] == pytest.approx([0.1, 0.1])


def test_answers_are_brought_to_the_unit_of_the_targets():
    data = [(inputs, 500 + 40 * inputs[:, :1]) for inputs, _ in batches()]
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, 1))
    healing = heal(model, data, nn.functional.mse_loss, torch.optim.Adam(model.parameters(), lr=1e-2))
    (kept,) = [treatment for treatment in healing.treatments if treatment.kept]
    assert kept.name.startswith("outputs in the unit of the targets")
    assert healing.loss_after < 1600  # the variance of the targets
    assert {"2.mean", "2.deviation"} <= set(model.state_dict())


@pytest.mark.parametrize(
    ("model", "given", "loss_fn", "what"),
    [(None, [], LOSS, "no model"), (nn.Linear(2, 2), 3, LOSS, "cannot be gone through"),
     (nn.Linear(2, 2), [], "mse", "loss cannot be called")],
)  # fmt: skip
def test_what_is_no_training_is_named_before_anything_happens(model, given, loss_fn, what):
    with pytest.raises(fl.DataError, match=what) as error:
        heal(model, given, loss_fn, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    assert error.value.where.startswith("heal(")


def test_a_fault_of_the_loop_or_the_data_is_told_with_its_line_and_not_treated():
    inputs, target = rows(3200)
    order = target.argsort(stable=True)
    ordered = list(zip(inputs[order].split(32), target[order].split(32), strict=True))
    model = mlp()
    healing = heal(model, ordered, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert not healing.accepted
    assert healing.treatments == ()
    assert healing.before.cause == "order"
    assert "  do:      shuffle the samples before each epoch" in str(healing)


def test_the_verdict_is_by_rows_that_were_neither_trained_on_nor_compared(monkeypatch):
    seen = {"judged": set(), "fresh": set()}
    healing = sys.modules["frostline.recipes.heal"]
    original = healing.three_parts

    def heard(data, **options):
        parts = original(data, **options)
        seen["judged"] = {tuple(row) for inputs, _ in (*parts.trained, *parts.decides) for row in inputs.tolist()}
        seen["fresh"] = {tuple(row) for inputs, _ in parts.fresh for row in inputs.tolist()}
        return parts

    monkeypatch.setattr(healing, "three_parts", heard)
    model = mlp()
    x, y = rows()
    order = [part for at in range(9) for part in torch.randperm(400, generator=seeded(at)).split(32)]
    result = heal(model, [(x[at], y[at]) for at in order], LOSS, sgd(model))
    assert seen["fresh"]
    assert not seen["fresh"] & seen["judged"]
    assert f"judged by {len(seen['fresh'])} samples that no decision used." in result.verdict


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_a_verdict_without_inputs_of_its_own_says_so():
    model = mlp()
    result = heal(model, batches(12), LOSS, sgd(model))  # rows are drawn one by one, some of them again
    assert "32 samples that no decision used, whose inputs are among the others as well" in result.verdict
    whole = [(x, y.float().mean()) for x, y in batches(6)]
    single = nn.Sequential(nn.Linear(FEATURES, 1), nn.Flatten(0))
    result = heal(single, whole, lambda output, target: (output.mean() - target).square(), sgd(single))
    assert "decisions used the same samples, since none could be taken out" in result.verdict


def test_inputs_and_targets_in_other_units_are_treated_together():
    torch.manual_seed(0)
    x = 1000 * torch.rand(600, 1)
    y = (x - 400).square()
    order = [part for _ in range(8) for part in torch.randperm(600).split(30)]
    model = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    healing = heal(model, [(x[at], y[at]) for at in order], nn.functional.mse_loss, optimizer)
    (kept,) = [one.name for one in healing.treatments if one.kept]
    assert kept.startswith("standardise the inputs, and outputs in the unit of the targets")
    assert healing.accepted
    with torch.no_grad():
        assert float((model(x) - y).square().mean() / y.var()) < 0.1
