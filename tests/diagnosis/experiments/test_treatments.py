from dataclasses import replace

import pytest
import torch
from torch import nn

from frostline.diagnosis import Evidence, Patient, diagnosis_of
from frostline.diagnosis.experiments.treatments import Remedy, family_of, is_clear, remedies_for
from frostline.diagnosis.rules import RULES
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.records import InputFacts, OptimizerFacts, OutlierFacts, TargetFacts
from helpers_health import SumOfInputs, activations, chain, mlp, record, records, sgd, task

ABOUTS = {rule.ABOUT.family: rule.ABOUT for rule in RULES}
CODES = {rule.ABOUT.code: rule.ABOUT for rule in RULES}
EVIDENCE = Evidence(
    (*chain(3), *activations("relu", "tanh")), records(norm=2.0), optimizer=OptimizerFacts(0.1, 0.99),
    targets=TargetFacts(100.0, 50.0),
)  # fmt: skip


LEFT_TO_THE_USER = (
    "overfitting",
    "loss_mismatch",
    "accumulation",
    "side_effects",
    "wiring",
    "mode",
    "order",
    "targets",
    "clip",
    "reshape",
    "schedule",
    "shared",
    "dropped_outputs",
)


def diagnosis(*families, outcome="issue"):
    return diagnosis_of([getattr(ABOUTS[family], outcome)("because.", None, None) for family in families], None)


def suggested(*families):
    return remedies_for(EVIDENCE, diagnosis(*families))


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
    for remedy in remedies_for(EVIDENCE, diagnosis(family)):
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
    return [remedy.name for remedy in remedies_for(EVIDENCE, found)]


def test_statistics_of_few_values_are_taken_of_one_sample_instead():
    assert named("FL602")[0] == "GroupNorm for BatchNorm"
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    patient = Patient(model, sgd(model))
    scale = model[1].weight
    next(r for r in remedies_for(EVIDENCE, _found("FL602"))).apply(patient, task(2))
    assert isinstance(model[1], nn.GroupNorm)
    assert model[1].weight is scale
    assert model(torch.randn(1, 12)).shape == (1, 3)


def test_statistics_of_frozen_layers_are_held():
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model[1].requires_grad_(False)
    patient = Patient(model, sgd(model))
    next(r for r in remedies_for(EVIDENCE, _found("FL603"))).apply(patient, task(2))
    assert not model.train()[1].training
    assert model[0].training


def test_values_that_the_training_made_come_last_and_those_of_the_data_first():
    about = next(rule.ABOUT for rule in RULES if rule.ABOUT.code == "FL502")
    others = [ABOUTS["exploding"].issue("because.", None, None)]
    orders = []
    for layer in ("input", "3"):
        found = diagnosis_of([*others, about.issue("because.", None, None, layer)], None)
        orders.append([r.families[0] for r in remedies_for(EVIDENCE, found)])
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
    found = remedies_for(EVIDENCE, later, is_stuck=is_stuck)
    swaps = [remedy for remedy in found if remedy.name.startswith("Leaky ReLU for sigmoid")]
    assert {family for remedy in swaps if (family := family_of(remedy, [start, later]))} == families


def offered(evidence=EVIDENCE, *, codes=(), families=(), **options):
    """Remedies by name, where rules of these codes, or of these families, found something."""
    abouts = [rule.ABOUT for rule in RULES if rule.ABOUT.code in codes] + [ABOUTS[family] for family in families]
    found = diagnosis_of([about.issue("because.", None, None) for about in abouts], None)
    return {remedy.name: remedy for remedy in remedies_for(evidence, found, **options)}


@pytest.mark.parametrize("family", ["gradient_spikes", "exploding", "nonfinite", "oscillation", "learning_rate"])
def test_gradients_are_clipped_at_what_they_were_at_first(family):
    norms = (1.0, 2.0, 3.0, 4.0, 5.0, *[900.0] * 5)
    evidence = replace(EVIDENCE, records=tuple(record(at, norm=norm) for at, norm in enumerate(norms)))
    clip = offered(evidence, families=[family])["clip gradients at 3, their usual norm"]
    assert (clip.is_due, clip.identity, clip.is_structural) == (False, "clip", False)
    patient = Patient(model := mlp(), sgd(model))
    clip.apply(patient, [])
    for parameter in patient.parameters:
        parameter.grad = torch.full_like(parameter, 10.0)
    patient.clip(patient.parameters)
    assert float(torch.stack([p.grad.norm() for p in patient.parameters]).norm()) == pytest.approx(3.0, rel=1e-4)


def test_of_a_long_run_the_first_third_of_the_norms_is_usual_and_without_any_there_is_no_clip():
    norms = (*[2.0] * 10, *[50.0] * 20, torch.inf, None)
    evidence = replace(EVIDENCE, records=tuple(record(at, norm=norm) for at, norm in enumerate(norms)))
    assert "clip gradients at 2, their usual norm" in offered(evidence, families=["exploding"])
    assert not any(name.startswith("clip") for name in offered(evidence, families=["symmetry"]))
    for none in (None, torch.nan):
        nothing = replace(EVIDENCE, records=(record(norm=none),))
        assert not any(name.startswith("clip") for name in offered(nothing, families=["exploding"]))


@pytest.mark.parametrize(("share", "at"), [(0.0, 15), (0.05, 8)])
def test_with_rows_that_are_far_out_the_clip_follows_the_norms_of_the_others(share, at):
    outliers = OutlierFacts("input", 300.0, share, 3, (5,))
    evidence = replace(EVIDENCE, outliers=outliers, records=tuple(record(at, norm=at + 1.0) for at in range(4)))
    found = offered(evidence, families=["gradient_spikes", "symmetry"])
    clip = found["clip gradients at the usual one of their last norms"]
    assert next(iter(found)) == clip.name  # before all others
    assert clip.is_due
    patient = Patient(model := mlp(), sgd(model))
    clip.apply(patient, [(torch.zeros(13, 2), None)])
    for size in range(1, 31):  # norms from 1 to 30
        patient.parameters[0].grad = torch.zeros_like(patient.parameters[0])
        patient.parameters[0].grad.view(-1)[0] = float(size)
        patient.clip(patient.parameters[:1])
    patient.parameters[0].grad.view(-1)[0] = 100.0
    patient.clip(patient.parameters[:1])
    assert float(patient.parameters[0].grad.norm()) == pytest.approx(at, abs=1.5)


@pytest.mark.parametrize(
    ("optimizer", "degree", "lr"),
    [(OptimizerFacts(0.1), 2.0, 0.1 / 2500), (OptimizerFacts(0.1), 1.0, 0.1 / 50),
     (OptimizerFacts(0.1, is_scale_free=True), 2.0, 0.1),
     (OptimizerFacts(0.1, is_scale_free=True, is_scheduled=True), 2.0, 0.1),
     (OptimizerFacts(0.1, is_scheduled=True), 2.0, None)],
)  # fmt: skip
def test_targets_in_another_unit_are_answered_in_it_with_a_rate_that_fits(optimizer, degree, lr):
    evidence = replace(EVIDENCE, optimizer=optimizer, loss=LossFacts("values", degree=degree))
    found = offered(evidence, codes=["FL505"])
    if lr is None:
        assert found == {}
        return
    (remedy,) = found.values()
    assert remedy.name == "outputs in the unit of the targets: times 50, plus 100"
    assert ("the learning rate divided by" in remedy.advice) is (lr < 0.1)
    model = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 1))
    patient = Patient(model, sgd(model, lr=0.1))
    torch.optim.lr_scheduler.StepLR(patient.optimizer, 5)
    data = [(inputs, torch.zeros(len(inputs), 1)) for inputs, _ in task(3)]
    remedy.apply(patient, data)
    (group,) = patient.optimizer.param_groups
    assert (group["lr"], group["initial_lr"]) == (pytest.approx(lr), pytest.approx(lr))
    assert abs(float(model(data[0][0]).detach().mean()) - 100) < 100


@pytest.mark.parametrize(
    ("names", "families", "order"),
    [
        (("sigmoid",), ["vanishing"], ["Leaky", "new", "BatchNorm"]),  # whatever the weights, a quarter at best
        (("sigmoid",), ["vanishing", "saturation"], ["new", "Leaky", "BatchNorm"]),
        (("tanh",), ["vanishing"], ["new", "Leaky", "BatchNorm"]), (("hardtanh",), ["saturation"], ["new", "Leaky"]),
        (("relu",), ["vanishing"], ["new", "BatchNorm"]), (("relu",), ["dead_units"], ["new", "BatchNorm", "Leaky"]),
        (("relu",), ["symmetry"], ["new"]), (("relu",), ["initialization"], ["new"]), (("tanh",), [], []),
    ],
)  # fmt: skip
def test_the_most_specific_comes_first(names, families, order):
    evidence = replace(EVIDENCE, layers=(*chain(3), *activations(*names)), records=())
    assert [name.split()[0] for name in offered(evidence, families=families)] == order


def test_a_stuck_network_with_squashers_is_suspected_without_a_symptom():
    evidence = replace(EVIDENCE, layers=(*chain(3), *activations("tanh")))
    (name,) = offered(evidence, is_stuck=True)
    assert name.startswith("Leaky ReLU for sigmoid and tanh")
    assert offered(replace(EVIDENCE, layers=chain(3)), is_stuck=True) == {}


def test_where_there_are_norms_no_more_are_put_in():
    layers = (*chain(3), *chain(4, "norm")[3:])
    assert not any(
        name.startswith("BatchNorm") for name in offered(replace(EVIDENCE, layers=layers), families=["vanishing"])
    )


@pytest.mark.parametrize(("momentum", "is_due"), [(0.99, True), (0.96, False), (0.9, None), (None, None)])
def test_a_momentum_above_the_usual_is_lowered(momentum, is_due):
    evidence = replace(EVIDENCE, optimizer=OptimizerFacts(0.1, momentum))
    remedy = offered(evidence, families=["oscillation"]).get("momentum 0.9")
    assert (remedy.is_due if remedy else None) is is_due
    assert offered(evidence, families=["symmetry"]).get("momentum 0.9") is None
    if remedy is not None:
        assert remedy.advice == "set the momentum to 0.9."
        model = mlp()
        for own, expected in ((0.99, 0.9), (0.5, 0.5)):
            patient = Patient(model, sgd(model, momentum=own))
            remedy.apply(patient, [])
            assert patient.optimizer.param_groups[0]["momentum"] == expected


def test_batchnorm_gets_a_usual_momentum_and_statistics_of_all_batches_at_the_end():
    for code in ("FL601", "FL602"):
        remedy = offered(codes=[code])["BatchNorm statistics of all batches, momentum 0.1"]
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8, momentum=1e-3), nn.Linear(8, 3))
    patient, data = Patient(model, sgd(model)), [(inputs + 9, target) for inputs, target in task(5)]
    remedy.apply(patient, data)
    assert model[1].momentum == 0.1
    remedy.finish(patient, data)
    exact = model[0](torch.cat([inputs for inputs, _ in data])).mean(0)
    assert torch.allclose(model[1].running_mean, exact, atol=1e-3)
    remedy.finish(Patient(plain := mlp(), sgd(plain)), data)  # nothing to do


def test_inputs_are_scaled_by_the_name_that_was_found_odd():
    inputs = InputFacts(0.0, 1.0, 3.0, 100.0, 0.1, 1.0, False, 1.0, name="b")
    remedy = offered(replace(EVIDENCE, inputs=inputs), codes=["FL501"])["standardise the inputs"]

    data = [({"a": x, "b": 100 * x}, target) for x, target in task(4)]
    patient = Patient(model := SumOfInputs(), sgd(model))
    before = model(**data[0][0]).detach()
    remedy.apply(patient, data)
    assert float(model(**data[0][0]).detach().abs().mean()) < float(before.abs().mean()) / 5


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (ABOUTS["vanishing"].issue("why.", None, None), True), (ABOUTS["vanishing"].tip("why.", None, None), False),
        (ABOUTS["vanishing"].tip("why.", 9.0, 1.0), False), (ABOUTS["vanishing"].issue("why.", 9.0, 10.0), True),
        (CODES["FL401"].tip("why.", 0.051, 0.05), True), (CODES["FL401"].tip("why.", 0.049, 0.05), False),
        (CODES["FL402"].tip("why.", 5.9e-4, 1e-3), True), (CODES["FL402"].tip("why.", 6.1e-4, 1e-3), False),
        (CODES["FL401"].tip("why.", None, 0.05), False),
    ],
)  # fmt: skip
def test_an_issue_and_a_step_size_beyond_its_limit_are_clear(finding, expected):
    assert is_clear(finding) is expected
