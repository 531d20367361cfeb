from dataclasses import replace

import pytest
import torch
from torch import nn

from frostline.health import Evidence, Patient, diagnosis_of
from frostline.health.records import OptimizerFacts, TargetFacts
from frostline.health.rules import RULES
from frostline.recipes.examination.treatments import Remedy, family_of, remedies_for
from helpers_health import activations, chain, mlp, records, sgd, task

ABOUTS = {rule.ABOUT.family: rule.ABOUT for rule in RULES}
EVIDENCE = Evidence(
    (*chain(3), *activations("relu", "tanh")), records(norm=2.0), optimizer=OptimizerFacts(0.1, 0.99),
    targets=TargetFacts(100.0, 50.0),
)  # fmt: skip


LEFT_TO_THE_USER = ("loss_mismatch", "accumulation")


def diagnosis(*families, outcome="issue"):
    return diagnosis_of([getattr(ABOUTS[family], outcome)("because.", None, None) for family in families], None)


def suggested(*families, model=None):
    patient = Patient(model or mlp(), sgd(model or mlp()))
    return remedies_for(patient, EVIDENCE, diagnosis(*families))


def test_the_healthy_are_not_treated():
    assert suggested() == []
    assert suggested(*LEFT_TO_THE_USER) == []


@pytest.mark.parametrize(
    "family",
    [family for family in ABOUTS if family not in (*LEFT_TO_THE_USER, "learning_rate")],
)
def test_every_sickness_that_can_be_undone_has_a_treatment_that_speaks_for_it(family):
    found = [family_of(remedy, [diagnosis(family), diagnosis(family)]) for remedy in suggested(family)]
    assert family in found


@pytest.mark.parametrize("family", sorted(set(ABOUTS) - {*LEFT_TO_THE_USER, "learning_rate"}))
def test_a_treatment_changes_the_twin_only_and_leaves_it_trainable(family):
    def build():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8, momentum=0.01), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(),
                             nn.Linear(8, 3))  # fmt: skip

    model = build()
    patient = Patient(model, sgd(model, momentum=0.99))
    for remedy in remedies_for(patient, EVIDENCE, diagnosis(family)):
        twin = patient.copy()
        remedy.apply(twin, task(3))
        twin.model(task(1)[0][0]).sum().backward()
        if twin.clip is not None:
            twin.clip(twin.parameters)
        twin.optimizer.step()
        trained = {id(p) for p in twin.model.parameters() if p.requires_grad}
        assert {id(p) for p in twin.parameters} == trained
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), build().state_dict().values(), strict=True)
    )
    assert patient.optimizer.param_groups[0]["momentum"] == 0.99
    assert patient.clip is None


def test_what_was_wrong_first_comes_before_what_came_of_it():
    remedy = Remedy("new weights", ("symmetry", "dead_units", "vanishing"), lambda *_: None)
    early, late = diagnosis("vanishing"), diagnosis("vanishing", "dead_units")
    assert family_of(remedy, [early, late]) == "vanishing"
    assert family_of(remedy, [diagnosis("dead_units", outcome="tip"), late]) == "dead_units"
    assert family_of(remedy, [diagnosis("input_scale")]) is None
    start = replace(remedy, undoes_the_start=True)
    assert family_of(start, [diagnosis("input_scale"), late]) is None
    assert family_of(Remedy("rate", ("learning_rate",), lambda *_: None, needs_symptom=False), []) == "learning_rate"


def named(*codes):
    """What is suggested where rules of these codes found something."""
    abouts = [rule.ABOUT for rule in RULES if rule.ABOUT.code in codes]
    found = diagnosis_of([about.issue("because.", None, None) for about in abouts], None)
    return [remedy.name for remedy in remedies_for(Patient(mlp(), sgd(mlp())), EVIDENCE, found)]


def test_statistics_of_few_values_are_taken_of_one_sample_instead():
    assert named("FL602")[0] == "GroupNorm for BatchNorm"
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    patient = Patient(model, sgd(model))
    scale = model[1].weight
    next(r for r in remedies_for(patient, EVIDENCE, _found("FL602"))).apply(patient, task(2))
    assert isinstance(model[1], nn.GroupNorm)
    assert model[1].weight is scale
    assert model(torch.randn(1, 12)).shape == (1, 3)


def test_statistics_of_frozen_layers_are_held():
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model[1].requires_grad_(False)
    patient = Patient(model, sgd(model))
    next(r for r in remedies_for(patient, EVIDENCE, _found("FL603"))).apply(patient, task(2))
    assert not model.train()[1].training
    assert model[0].training


def test_values_that_the_training_made_come_last_and_those_of_the_data_first():
    about = next(rule.ABOUT for rule in RULES if rule.ABOUT.code == "FL502")
    others = [ABOUTS["exploding"].issue("because.", None, None)]
    orders = []
    for layer in ("input", "3"):
        found = diagnosis_of([*others, about.issue("because.", None, None, layer)], None)
        orders.append([r.families[0] for r in remedies_for(Patient(mlp(), sgd(mlp())), EVIDENCE, found)])
    assert orders[0][0] == "nonfinite"
    assert orders[1][-1] == "nonfinite"


def _found(code):
    about = next(rule.ABOUT for rule in RULES if rule.ABOUT.code == code)
    return diagnosis_of([about.issue("because.", None, None)], None)


@pytest.mark.parametrize(("share", "family"), [(0.6, "vanishing"), (1.0, "dead_units")])
def test_half_dead_layers_are_not_what_stops_a_gradient(share, family):
    found = [ABOUTS["dead_units"].issue("because.", share, 0.5), ABOUTS["vanishing"].issue("because.", 1e-7, 1e-3)]
    weights = next(remedy for remedy in suggested("dead_units", "vanishing") if remedy.undoes_the_start)
    assert family_of(weights, [diagnosis_of(found, None)] * 2) == family


@pytest.mark.parametrize(("is_stuck", "families"), [(True, {"vanishing"}), (False, set())])
def test_squashers_of_a_stuck_network_are_suspected_where_gradients_vanish_only_later(is_stuck, families):
    start, later = diagnosis(), diagnosis("vanishing", outcome="tip")
    patient = Patient(model := mlp(), sgd(model))
    found = remedies_for(patient, EVIDENCE, later, is_stuck=is_stuck)
    swaps = [remedy for remedy in found if remedy.name.startswith("Leaky ReLU for sigmoid")]
    assert {family for remedy in swaps if (family := family_of(remedy, [start, later]))} == families
