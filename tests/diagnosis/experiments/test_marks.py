"""Heal answers for the state in which its training ended, not for that of the cure."""

import math
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis import Patient, Score
from frostline.diagnosis.experiments.marks import BestMark, falls_below, verdict_of

CLASSES, FEATURES = 3, 2


def rows(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
    return centres[target] + 0.6 * torch.randn(count, FEATURES, generator=generator), target


def batches(count=160, size=32, scale=1.0):
    x, y = rows()
    generator = torch.Generator().manual_seed(1)
    chosen = [torch.randint(0, len(x), (size,), generator=generator) for _ in range(count)]
    return [(scale * x[at], y[at]) for at in chosen]


def accuracy(model, scale=1.0):
    x, y = rows(seed=7)
    with torch.no_grad():
        return float((model.eval()(scale * x).argmax(1) == y).float().mean())


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def heal_under(loss_of, model=None, *, scale=200.0, lr=0.05, data=None):
    model = model or mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    healing = fl.heal(model, data or batches(scale=scale), loss_of, optimizer)
    return model, optimizer, healing


class Turning:
    """A loss that turns into another after some calls with gradients."""

    def __init__(self, after, late):
        self.after, self.late, self.calls = after, late, 0

    def __call__(self, output, target):
        self.calls += torch.is_grad_enabled()
        loss = F.cross_entropy(output, target)
        return loss if self.calls < self.after or not torch.is_grad_enabled() else self.late(loss, output)


def test_a_cure_that_lasts_is_accepted_and_said_to_be_good():
    model, _, healing = heal_under(F.cross_entropy)
    assert healing.accepted
    assert accuracy(model, 200.0) > 0.9
    assert healing.verdict


LATE = {
    "unlearns": lambda loss, output: -20 * loss,
    "no number": lambda loss, output: loss * math.nan,
    "too steep": lambda loss, output: 1e4 * output.square().mean(),
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("after", [240, 300, 400])
def test_a_network_that_was_cured_and_breaks_down_later_is_not_accepted_as_it_ends(late, after):
    model, _, healing = heal_under(Turning(after, LATE[late]))
    good = accuracy(model, 200.0)
    assert not healing.accepted or good > 0.9
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    if any(treatment.kept for treatment in healing.treatments if treatment.family == "input_scale"):
        assert good > 0.9  # its best mark


def test_steps_that_the_network_breaks_are_not_accepted():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.calls = mlp(), 0

        def forward(self, x):
            self.calls += self.training
            out = self.body(x)
            return out * math.nan if self.training and self.calls % 3 == 0 else out

    _, _, healing = heal_under(F.cross_entropy, Breaks(), scale=1.0)
    assert not healing.accepted
    assert "not finite" in healing.verdict


def test_steps_that_the_data_break_may_be_left_out():
    data = batches(scale=1.0)
    for at in (20, 60, 125):  # the last one is trained on at the very end
        data[at][0][3, 0] = math.nan
    _, _, healing = heal_under(F.cross_entropy, data=data)
    assert healing.accepted
    assert {treatment.family for treatment in healing.treatments if treatment.kept} == {"nonfinite"}


def test_a_network_at_chance_is_not_accepted():
    generator = torch.Generator().manual_seed(3)
    noise = [
        (200 * torch.randn(32, FEATURES, generator=generator), torch.randint(0, CLASSES, (32,), generator=generator))
        for _ in range(160)
    ]
    _, _, healing = heal_under(F.cross_entropy, data=noise)
    assert not healing.accepted


# The best mark


def of(*hits, loss=0.5):
    return Score(sum(hits) / len(hits), loss, tuple(map(float, hits)))


def test_a_fall_that_is_no_noise_is_below():
    best = of(*[1] * 95, *[0] * 5)
    assert not falls_below(of(*[1] * 94, *[0] * 6), best)
    assert falls_below(of(*[1] * 80, *[0] * 20), best)
    assert falls_below(of(*[1] * 100, loss=math.nan), best)
    assert not falls_below(of(*[1] * 80, *[0] * 20), best, least=0.2)


def test_the_best_state_is_kept_as_a_copy():
    model = mlp()
    patient = Patient(model, torch.optim.SGD(model.parameters(), lr=0.1))
    judged = batches(4)
    mark = BestMark(judged, F.cross_entropy)
    for _ in range(60):
        for inputs, target in judged:
            patient.optimizer.zero_grad()
            F.cross_entropy(model(inputs), target).backward()
            patient.optimizer.step()
    mark.look(patient, 60)
    kept = model[0].weight.detach().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(-1)
    now = mark.look(patient, 61)
    assert mark.steps == 60
    assert torch.equal(mark.patient.model[0].weight, kept)
    assert mark.is_broken_down(now)
    assert mark.is_better_than(patient, 2.0)
    verdict = verdict_of(now, mark.score, num_broken=0, first_loss=2.0)
    assert not verdict.is_good
    back = verdict.of_best_mark(mark.score, now, 2.0, 60)
    assert not back.is_good  # it broke down, though the model was taken back
    assert "best state, after 60 steps (score " in back.why


def test_what_is_as_good_as_its_best_mark_stays():
    model = mlp()
    mark = BestMark(batches(4), F.cross_entropy)
    patient = Patient(model, torch.optim.SGD(model.parameters(), lr=0.1))
    last = mark.look(patient, 10)
    assert not mark.is_better_than(patient, 9.0)
    assert "2 of the last steps" in verdict_of(last, mark.score, num_broken=2, first_loss=9.0).why


def test_the_verdict_is_by_its_own_samples_alone():
    good, bad = Score(0.9, 0.3, skill=0.8, lead=0.5), Score(0.1, 2.4, skill=-0.1, lead=0.0)
    assert verdict_of(good, None, num_broken=0, first_loss=2.3).is_good
    assert verdict_of(good, None, num_broken=0, first_loss=2.3).why == "the model is good at the end (score 90%)"
    poor = verdict_of(bad, None, num_broken=0, first_loss=2.3)
    assert (poor.is_good, "constant-prediction baseline" in poor.why) == (False, True)
    assert not verdict_of(Score(0.0, math.nan), None, num_broken=0, first_loss=2.3).is_good
    assert verdict_of(good, None, num_broken=0, first_loss=2.3).of_best_mark(good, bad, 2.3, 9).is_good
    assert not verdict_of(good, None, num_broken=0, first_loss=2.3).of_best_mark(bad, good, 2.3, 9).is_good


def test_the_rules_look_at_the_last_twenty_steps(monkeypatch):
    healing = sys.modules["frostline.diagnosis.experiments.relapse"]
    asked, original = [], healing.watched

    def heard(one, part, *args, **options):
        asked.append(len(part))
        return original(one, part, *args, **options)

    monkeypatch.setattr(healing, "watched", heard)
    heal_under(F.cross_entropy, scale=1.0)
    assert asked[0] == 20
