import pytest

from frostline.diagnosis.rules import nothing_learnt
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.records import Evidence
from frostline.diagnosis.rules.wiring_records import CounterpartFacts, ShiftFacts
from helpers_health import losses, outcomes

LONG = losses(*[1.0] * 60)


FALLING = losses(*(5.3 - 0.4 * min(at, 40) / 40 + 0.02 * (-1) ** at for at in range(60)))


@pytest.mark.parametrize("told", [LONG, FALLING])
@pytest.mark.parametrize(("skill", "words"), [
    (0.001, "no better on held-out samples than the constant-prediction baseline"),
    (-0.8, "no better on held-out samples than the constant-prediction baseline"),
    (0.04, "at most 4% below the constant-prediction baseline"),
])  # fmt: skip
def test_it_fires(skill, words, told):
    (finding,) = nothing_learnt.check(Evidence(losses=told, skill=skill))
    assert finding.outcome == "tip"
    assert words in finding.why


@pytest.mark.parametrize(
    ("follows", "skill", "outcome"),
    [((0.1, 0.002), None, "issue"), ((0.1, 0.05), None, "not judged"), ((0.005, 0.002), None, "not judged"),
     ((0.1, 0.002), 0.6, "passed"), (None, None, "not judged")],
)  # fmt: skip
def test_outputs_that_no_longer_follow_the_inputs_are_an_issue_where_no_baseline_is_known(follows, skill, outcome):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=skill, follows=follows))
    assert finding.outcome == outcome
    assert ("divergence of an autoencoder" in finding.advice) is (outcome == "issue")


@pytest.mark.parametrize(
    ("directions", "outcome"),
    [((0.14, 0.016), "issue"), ((0.14, 0.06), "not judged"), ((0.06, 0.04), "not judged"), (None, "not judged")],
)
def test_outputs_that_point_the_same_way_are_an_issue_where_they_did_not_before(directions, outcome):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, directions=directions))
    assert finding.outcome == outcome
    assert ("detach the targets" in finding.advice) is (outcome == "issue")


@pytest.mark.parametrize(
    ("told", "still", "outcome"),
    [(LONG, False, "tip"), (LONG, None, "not judged"), (FALLING, False, "not judged"), (LONG[:40], False, "not judged"),
     (losses(*[-1.0] * 60), False, "not judged")],
)  # fmt: skip
def test_of_a_checkup_that_knows_the_loss_alone_one_that_stays_is_a_tip(told, still, outcome):
    (finding,) = nothing_learnt.check(Evidence(losses=told, stands_still=still))
    assert finding.outcome == outcome
    assert ("the loss went from 1 to 1" in finding.why) is (outcome == "tip")


def test_a_loss_that_fell_to_its_floor_is_no_symptom():
    (finding,) = nothing_learnt.check(Evidence(losses=FALLING, skill=0.07))
    assert finding.outcome == "passed"
    assert (
        "7% better than the constant-prediction baseline, and the training loss fell from 5.28 to 4.9:" in finding.why
    )
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.07)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.5)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(nothing_learnt, Evidence(losses=LONG)) == ["not judged"]
    assert outcomes(nothing_learnt, Evidence(losses=losses(1.0, 1.0), skill=0.0)) == ["not judged"]


@pytest.mark.parametrize(("epochs", "is_short"), [(1.0, True), (3.0, False), (None, False)])
def test_after_one_epoch_the_first_advice_is_to_train_on(epochs, is_short):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=0.0, epochs=epochs))
    assert finding.outcome == "tip"
    assert ("too short" in finding.why) is is_short
    assert finding.advice.startswith("look again after three epochs") is is_short


@pytest.mark.parametrize(("skill", "outcome"), [(0.101, "passed"), (0.099, "tip")])
def test_the_limit_of_what_counts_as_learnt(skill, outcome):
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=skill)) == [outcome]


@pytest.mark.parametrize(("count", "outcome"), [(44, "not judged"), (45, "tip")])
def test_a_network_gets_some_time(count, outcome):
    (finding,) = nothing_learnt.check(Evidence(losses=losses(*[1.0] * count), skill=0.0))
    assert finding.outcome == outcome
    assert f"{count} steps" in finding.why


@pytest.mark.parametrize(("skill", "outcome"), [(0.051, "passed"), (0.049, "tip")])
def test_a_loss_at_its_floor_must_have_brought_something(skill, outcome):
    assert outcomes(nothing_learnt, Evidence(losses=FALLING, skill=skill)) == [outcome]


@pytest.mark.parametrize(("skill", "words"), [(0.006, "at most 1% below"), (0.004, "no better on")])
def test_next_to_nothing_is_nothing(skill, words):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=skill))
    assert words in finding.why
    assert (finding.measured, finding.limit) == (skill, 0.1)


@pytest.mark.parametrize(("noise", "outcome"), [(0.09, "passed"), (0.11, "tip")])
def test_a_fall_is_four_times_what_the_last_losses_scatter(noise, outcome):
    told = losses(*[5.4] * 30, *(5.0 + noise * (-1) ** at for at in range(30)))
    assert outcomes(nothing_learnt, Evidence(losses=told, skill=0.07)) == [outcome]


@pytest.mark.parametrize(("epochs", "is_short"), [(2.4, True), (2.6, False)])
def test_how_many_epochs_are_asked(epochs, is_short):
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=0.0, epochs=epochs))
    assert ("too short" in finding.why) is is_short
    assert ("If it still learns nothing then: check that every input" in finding.advice) is is_short


def test_one_batch_by_heart_tells_wrong_pairs_from_a_broken_network():
    stuck = {"skill": 0.0, "losses": losses(*[1.0] * 60), "epochs": 6.0}
    known = LossFacts("classes")
    (apart,) = nothing_learnt.check(Evidence(**stuck, is_learnt_by_heart=True, loss=known))
    assert apart.outcome == "issue"
    assert "still belongs to its target" in apart.advice
    assert "a view or reshape where a transpose is meant" in apart.advice
    (broken,) = nothing_learnt.check(Evidence(**stuck, is_learnt_by_heart=False))
    assert broken.outcome == "tip"
    assert "larger learning rate" in broken.advice
    short = stuck | {"epochs": 1.0}
    assert outcomes(nothing_learnt, Evidence(**short, is_learnt_by_heart=True, loss=known)) == ["tip"]
    triplets = LossFacts("unknown")  # a batch is learnt long before the embedding holds for others
    assert outcomes(nothing_learnt, Evidence(**stuck, is_learnt_by_heart=True, loss=triplets)) == ["tip"]


def test_inputs_that_are_all_the_same_are_an_issue_where_nothing_is_learnt():
    (finding,) = nothing_learnt.check(Evidence(losses=LONG, skill=0.0, inputs_vary=False))
    assert finding.outcome == "issue"
    assert "All inputs of a batch are the same" in finding.why
    assert "print a few inputs" in finding.advice
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.5, inputs_vary=False)) == ["passed"]
    assert outcomes(nothing_learnt, Evidence(losses=LONG, skill=0.0, inputs_vary=True)) == ["tip"]


def test_targets_of_other_rows():
    shifts = ShiftFacts(0.0, "the row before", 0.9)
    (finding,) = nothing_learnt.check(Evidence(skill=0.0, losses=losses(*[1.0] * 60), shifts=shifts))
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert "reads 0% of a row's own target of its input, and 90% of the target of the row before" in finding.why
    assert "off by one" in finding.advice


def test_where_a_part_is_named_nothing_more_is_said():
    facts = CounterpartFacts("network", 0.1, 0.9, 0.9, 0.1, "a plain network")
    (finding,) = nothing_learnt.check(Evidence(skill=0.0, losses=losses(*[1.0] * 60), counterparts=facts))
    assert finding.outcome == "passed"
    assert "FL517 names the part" in finding.why
