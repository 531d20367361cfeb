import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis import Evidence, Patient
from frostline.diagnosis.experiments.observer import Observation, Observer, observe
from helpers_health import FEATURES, mlp, normed, sgd, task


def seen(model, data=None, **options):
    data = data or task()
    return observe(Patient(model, sgd(model, **options)), data, data[-8:], F.cross_entropy)


def test_everything_is_gathered():
    observation = seen(normed())
    evidence = observation.evidence
    assert len(evidence.records) == len(evidence.gradient_norms) == len(evidence.losses) == 40
    assert evidence.loss.kind == "classes"
    assert evidence.optimizer.lr == 0.05
    assert evidence.inputs.widest == pytest.approx(1.5, abs=1)
    assert evidence.norms.layers == ("1",)
    assert evidence.norms.smallest_batch == 16
    assert observation.score.share > 0.8
    assert evidence.has_accumulated is False


def test_the_loss_is_asked_with_rows_that_are_numbers():
    data = [(inputs, inputs[:, :1].clone()) for inputs, _ in task()]
    data[0][1][3] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    assert observe(Patient(model, sgd(model)), data, data[-8:], F.mse_loss).evidence.loss.prefers_right


def test_all_the_data_are_looked_at_once(monkeypatch):
    calls = []
    monkeypatch.setattr("frostline.diagnosis.experiments.observer.facts_of_outliers", calls.append)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(32, 3))
    data = [(torch.randint(10, (8, 4)), torch.randint(3, (8,))) for _ in range(20)]
    with Observer(Patient(model, sgd(model)), data, F.cross_entropy, every=4) as observer:
        for steps in (5, 10, 20):
            observer.train(steps)
            assert observer.evidence.inputs is None
    assert len(calls) == 1


def refusing(output, target):
    raise ValueError("only my own outputs")


@pytest.mark.parametrize(
    ("model", "loss_fn", "what"),
    [(nn.Linear(5, 3), F.cross_entropy, "model cannot be called"), (mlp(), F.nll_loss, None),
     (nn.Linear(FEATURES, 2), lambda out, y: F.cross_entropy(out, y + 1), "loss cannot be taken"),
     (nn.Linear(FEATURES, 2), refusing, "loss cannot be taken")],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_told_before_anything_is_trained(model, loss_fn, what):
    patient, data = Patient(model, sgd(model)), task(6)
    if what is None:
        assert observe(patient, data, data[-2:], loss_fn).evidence.losses
        return
    with pytest.raises(fl.DataError, match=what) as error:
        observe(patient, data, data[-2:], loss_fn)
    assert error.value.where == "batch 0, in evaluation mode"
    assert error.value.received.startswith("inputs float32 (16, 12), target int64 (16,); ")


def test_a_loss_that_reads_the_model_is_told_to_get_it_from_the_output():
    model = mlp()
    with pytest.raises(fl.DataError, match=r"(?s)The loss cannot be taken .*return output, penalty") as error:
        fl.checkup(model, task(6), lambda output, target: F.cross_entropy(output, target) + model.penalty, sgd(model))
    assert "has no attribute 'penalty'" in error.value.received


def test_what_is_right_beyond_the_baseline():
    observation = seen(mlp())
    least = observation.score.share - observation.score.lead
    assert observation.evidence.right == pytest.approx(observation.score.lead / (1 - least))
    pairs = [(inputs, (inputs, target)) for inputs, target in task()]
    of_loss = observe(Patient(model := mlp(), sgd(model)), pairs, pairs[-8:], lambda o, t: F.cross_entropy(o, t[1]))
    assert of_loss.score.is_of_loss
    assert of_loss.evidence.right is None


def test_skill_is_what_is_saved_of_the_loss_or_gained_in_answers_whichever_is_more():
    observation = seen(mlp())
    assert observation.evidence.skill == max(observation.score.skill, observation.score.lead)
    assert observation.evidence.skill > 0.5
    assert observation.first_loss == observation.evidence.losses[0][1]
    assert Observation(Evidence(), observation.score).first_loss == math.inf


def test_inputs_and_targets_are_judged_inside_of_layers_that_scale_them():
    generator = torch.Generator().manual_seed(0)
    inputs = 500 + 100 * torch.randn(320, FEATURES, generator=generator)
    target = 5000 * inputs[:, :1]
    data = list(zip(inputs.split(16), target.split(16), strict=True))
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    fl.remedies.standardize_inputs(model, data)
    fl.remedies.rescale_outputs(model, data, float(target.mean()), float(target.std()))
    found = observe(Patient(model, sgd(model)), data[:-4], data[-4:], F.mse_loss).evidence
    assert found.inputs.is_normalised
    assert abs(found.targets.mean) < 0.2
    assert 0.8 < found.targets.deviation < 1.2
