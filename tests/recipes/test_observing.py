import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.health import Patient, judge
from frostline.recipes.observing import as_batches, finite_rows, held_out, observe
from helpers_health import CLASSES, FEATURES, mlp, sgd, task


def normed(momentum=0.1):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(),
                         nn.Linear(16, CLASSES))  # fmt: skip


def seen(model, data=None, **options):
    data = data or task()
    return observe(Patient(model, sgd(model, **options)), data, data[-8:], F.cross_entropy)


def test_batches_are_kept_in_order_and_cut():
    data = task(10)
    assert [target.tolist() for _, target in as_batches(iter(data), mlp(), 4)] == [t.tolist() for _, t in data[:4]]


def test_the_last_fifth_is_held_out_where_its_rows_are_new():
    data = task(10)
    rest, judged = held_out(data)
    assert all(a[0] is b[0] for a, b in zip([*rest, *judged], data, strict=True))
    assert (len(rest), len(judged)) == (8, 2)


def test_of_rows_that_come_again_a_fifth_is_held_out():
    data = task(5) * 4
    rest, judged = held_out(data)
    rows = [{tuple(row.tolist()) for inputs, _ in part for row in inputs} for part in (rest, judged)]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == sum(len(inputs) for inputs, _ in data[:5])
    assert 0.05 < len(rows[1]) / len(rows[0] | rows[1]) < 0.4
    assert sum(len(inputs) for inputs, _ in judged) == len(rows[1])


def test_nobody_is_judged_by_rows_that_are_not_finite():
    data = task(3)
    data[1][0][2, 0] = math.nan
    found = finite_rows(data)
    assert [len(inputs) for inputs, _ in found] == [len(data[0][0]), len(data[1][0]) - 1, len(data[2][0])]
    assert torch.equal(found[1][1], torch.cat([data[1][1][:2], data[1][1][3:]]))


@pytest.mark.parametrize("given", [[], task(1)])
def test_too_few_batches_are_refused(given):
    with pytest.raises(fl.DataError, match="There are too few batches"):
        as_batches(given, mlp(), None)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(fl.DataError, match="The model has no parameters: there is nothing to check"):
        as_batches(task(3), nn.ReLU(), None)


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


def test_statistics_that_lag_are_measured():
    far = [(5 * inputs + 20, target) for inputs, target in task()]
    facts = seen(normed(momentum=1e-3), far, lr=1e-3).evidence.norms
    assert facts.momentum == 1e-3
    assert facts.eval_loss > facts.exact_loss + 0.2
    assert facts.exact_loss == pytest.approx(facts.train_loss, abs=0.1)


def test_a_frozen_norm_that_moves_is_named():
    model = normed()
    model[1].requires_grad_(False)
    assert seen(model).evidence.norms.moving_in_frozen == ("1",)
    model[1].eval()
    model[1].train = lambda mode=True: model[1]  # as frostline.freeze pins it
    assert seen(model).evidence.norms is None


def test_odd_rows_between_samples_are_found():
    data = task(200)
    data[7][0][5, 2] = math.nan  # every third step is sampled
    evidence = seen(mlp(), data).evidence
    assert evidence.records[-1].step == 7
    assert evidence.records[-1].nonfinite_samples == (5,)
    assert "FL502" in {finding.code for finding in judge(evidence).findings}


def test_a_model_without_batchnorm_has_no_facts_of_it():
    assert seen(mlp()).evidence.norms is None
