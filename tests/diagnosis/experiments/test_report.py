from dataclasses import replace

import pytest

from diagnosis.experiments.test_verdict import trial
from frostline.diagnosis import Evidence, Score, diagnosis_of
from frostline.diagnosis.experiments.budget import Budget
from frostline.diagnosis.experiments.report import reported
from frostline.diagnosis.experiments.verdict import Proof
from frostline.diagnosis.rules import RULES
from frostline.diagnosis.rules import spikes as spikes_rule
from frostline.diagnosis.rules.records import OutlierFacts

ABOUTS = {rule.ABOUT.code: rule.ABOUT for rule in RULES}


def issue(code):
    return ABOUTS[code].issue("because.", 2.0, 1.0)


def tip(code):
    return ABOUTS[code].tip("because.", 0.5, 1.0)


def by_code(diagnosis):
    return {finding.code: finding for finding in (*diagnosis.findings, *diagnosis.passed)}


def proof_of(one, **changes):
    remedy = replace(one.suspicion.remedy, **changes)
    return Proof(replace(one, suspicion=replace(one.suspicion, remedy=remedy)), Score(0.5, 1.0), 0.3, 2, 0.02)


def test_the_cause_is_told_with_its_proof_and_what_was_done():
    one = trial("learning_rate")
    proof = proof_of(one, code="FL401", advice="multiply the learning rate by 0.01: 1 becomes 0.01.")
    found = by_code(reported(diagnosis_of([tip("FL401")], None), proof, "learning_rate", [one]))
    assert found["FL401"].outcome == "issue"
    assert "With a fix (undo learning_rate)" in found["FL401"].why
    assert found["FL401"].advice == "multiply the learning rate by 0.01: 1 becomes 0.01."


def test_a_cause_without_a_symptom_is_told_by_its_trial():
    proof = proof_of(trial("learning_rate"), code="FL402")
    (finding,) = reported(diagnosis_of([], None), proof, "learning_rate").findings
    assert (finding.code, finding.outcome) == ("FL402", "issue")
    assert finding.advice == ABOUTS["FL402"].advice


def test_consequences_wait_for_the_cause():
    rate, dead, clip = trial("learning_rate"), trial(gain=-0.1), trial("gradient_spikes", gain=0.2)
    diagnosis = diagnosis_of([issue("FL401"), issue("FL201"), issue("FL103"), issue("FL202")], None)
    found = by_code(reported(diagnosis, proof_of(rate, code="FL401"), "learning_rate", [rate, dead, clip]))
    assert {found[code].outcome for code in ("FL201", "FL103", "FL202")} == {"tip"}
    assert found["FL201"].why.endswith("Fixing this did not help in a trial.")
    assert found["FL103"].why.endswith("Fixing this helped as well.")
    assert found["FL202"].why.endswith("No trial was made for it.")
    assert {found[code].advice for code in ("FL201", "FL103", "FL202")} == {
        "fix the cause first (learning rate too high), then look again."
    }


def test_without_a_cause_the_advice_stays():
    found = by_code(reported(diagnosis_of([issue("FL201")], None), None, None, [trial(gain=0.3)]))
    assert found["FL201"].why.endswith("Fixing this helped in the first trial, but not reliably in repeated trials.")
    assert found["FL201"].advice == ABOUTS["FL201"].advice


def test_tips_that_did_not_help_have_passed():
    found = by_code(reported(diagnosis_of([tip("FL201"), tip("FL501")], None), None, None, [trial(gain=-0.1)]))
    assert (found["FL201"].outcome, found["FL201"].advice) == ("passed", "nothing.")
    assert found["FL501"] == tip("FL501")


def test_rows_that_are_far_out_stay_told_and_plain_spikes_pass():
    rows = Evidence(gradient_norms=(1.0,) * 30, outliers=OutlierFacts("input", 300.0, 0.01, 3, (5,)))
    spikes = Evidence(gradient_norms=(1.0,) * 20 + (10.0,) + (1.0,) * 9)
    clip = trial("gradient_spikes", gain=-0.1)
    for evidence, outcome in ((rows, "tip"), (spikes, "passed")):
        (finding,) = spikes_rule.check(evidence)
        assert finding.outcome == "tip"
        assert by_code(reported(diagnosis_of([finding], None), None, None, [clip]))["FL103"].outcome == outcome


def test_what_is_certain_needs_no_trial():
    found = by_code(reported(diagnosis_of([issue("FL502")], None), proof_of(trial()), "dead_units", [trial()]))
    assert found["FL502"] == issue("FL502")


def test_that_nothing_is_learnt_is_told_where_no_cause_explains_it():
    diagnosis = diagnosis_of([tip("FL404")], None)
    rate = trial("learning_rate", gain=0.0)
    assert by_code(reported(diagnosis, None, None, [rate]))["FL404"].outcome == "tip"
    assert by_code(reported(diagnosis, proof_of(trial()), "dead_units", [rate]))["FL404"].outcome == "passed"


def passed(code, why="seen."):
    return ABOUTS[code].passed(why)


@pytest.mark.parametrize("code", ["FL401", "FL402"])
def test_nothing_is_said_about_the_steps_of_an_optimizer_of_ours(code):
    given = diagnosis_of([tip(code), tip("FL201"), passed("FL403")], None)
    found = reported(given, None, None, is_rate_known=False)
    (silent,) = found.not_judged
    assert (silent.code, silent.measured, silent.limit, silent.advice) == (code, None, None, "nothing.")
    assert "pass the one that trains the model" in silent.why
    assert by_code(found)["FL201"].outcome == "tip"
    assert code in by_code(reported(given, None, None))


def test_a_cause_is_told_with_what_its_rule_had_seen():
    proof = proof_of(trial("learning_rate"), code="FL402", advice="multiply by 10.")
    later, first = diagnosis_of([passed("FL402", "steps are usual.")], None), diagnosis_of([passed("FL402")], None)
    (finding,) = reported(later, proof, "learning_rate").findings
    assert finding.why.startswith("steps are usual; with undo learning_rate, the score on held-out samples goes")
    assert (finding.measured, finding.limit, finding.advice) == (0.3, 0.02, "multiply by 10.")
    assert reported(later, proof, "learning_rate").passed == ()  # it is not said twice
    (finding,) = reported(diagnosis_of([], None), proof, "learning_rate", (), first).findings
    assert finding.why.startswith("with undo learning_rate")
    start = diagnosis_of([tip("FL402")], None)
    (finding,) = reported(diagnosis_of([], None), proof, "learning_rate", (), start).findings
    assert finding.why.startswith("with undo")


def test_of_several_rules_of_a_family_the_one_that_was_proven_is_told():
    proof = proof_of(trial("learning_rate"), code="FL402")
    found = by_code(
        reported(diagnosis_of([tip("FL401"), tip("FL402")], None), proof, "learning_rate", [trial("learning_rate")])
    )
    assert (found["FL402"].outcome, found["FL401"].outcome) == ("issue", "tip")
    assert "fix the cause first" in found["FL401"].advice
    both = by_code(
        reported(diagnosis_of([tip("FL501"), tip("FL505")], None), proof_of(trial("input_scale")), "input_scale")
    )
    assert {finding.outcome for finding in both.values()} == {"issue"}


def test_a_layer_that_is_drawn_anew_keeps_its_own_advice():
    proof = proof_of(trial("symmetry"), advice="draw all weights anew.")
    own = replace(issue("FL301"), layer="fc1")
    assert by_code(reported(diagnosis_of([own], None), proof, "symmetry"))["FL301"].advice == own.advice
    assert (
        by_code(reported(diagnosis_of([issue("FL301")], None), proof, "symmetry"))["FL301"].advice
        == "draw all weights anew."
    )
    other = replace(issue("FL201"), layer="fc1")
    proof = proof_of(trial("dead_units"), advice="swap them.")
    assert by_code(reported(diagnosis_of([other], None), proof, "dead_units"))["FL201"].advice == "swap them."


@pytest.mark.parametrize("code", ["FL405", "FL406", "FL502", "FL503", "FL504", "FL507", "FL508", "FL604", "FL605"])
def test_what_is_certain_stays_as_it_is(code):
    found = reported(diagnosis_of([tip(code)], None), proof_of(trial()), "dead_units", [trial()])
    assert by_code(found)[code] == tip(code)


def test_a_cause_without_proof_is_told_of_issues_alone():
    given = diagnosis_of([issue("FL201"), tip("FL202")], None)
    found = by_code(reported(given, None, "dead_units"))
    assert found["FL201"] == issue("FL201")
    found = by_code(reported(diagnosis_of([tip("FL201")], None), None, "dead_units"))
    assert found["FL201"].outcome == "tip"


def test_a_trial_that_speaks_for_another_rule_says_nothing():
    one = trial("learning_rate", gain=0.3)
    other = replace(one, suspicion=replace(one.suspicion, remedy=replace(one.suspicion.remedy, code="FL402")))
    found = by_code(reported(diagnosis_of([tip("FL401")], None), None, None, [other]))
    assert found["FL401"] == tip("FL401")
    found = by_code(reported(diagnosis_of([issue("FL401")], None), None, None, [other]))
    assert found["FL401"].why.endswith("No trial was made for it.")


def test_a_training_that_was_cut_for_want_of_time_says_what_would_do():
    short = ABOUTS["FL402"].not_judged("the training is too short.")
    cut, whole = (Budget(30.0, 2.0, most=most, available=100, clock=lambda: 0.0) for most in (10, 100))
    (finding,) = reported(diagnosis_of([short], None), None, None, budget=cut).not_judged
    assert finding.why.startswith("copies were trained on 10 of 100 batches, for want of time: ")
    assert "checkup(..., budget=160) trains on all" in finding.why
    assert reported(diagnosis_of([short], None), None, None, budget=whole).not_judged == (short,)
    assert reported(diagnosis_of([short], None), None, None).not_judged == (short,)


def test_what_helped_once_and_was_not_repeated_says_why():
    budget = Budget(5.0, 1.0, clock=lambda: 0.0)
    budget.left_out.append("undo dead_units, again")
    diagnosis = reported(diagnosis_of([issue("FL201")], None), None, None, [trial(gain=0.3)], budget=budget)
    (finding,) = diagnosis.findings
    assert finding.why.endswith(
        "Fixing this helped in the first trial, which was not repeated; the budget of 5 s was spent."
    )
    (left,) = diagnosis.not_judged
    assert "before this was tried: undo dead_units, again. checkup(..., budget=10) tries it." in left.why


def test_a_loss_that_blew_up_stays_an_issue_where_there_was_no_time_to_try_a_lower_rate():
    budget = Budget(total_s=5.0, left_out=["slower"])
    open_ = replace(trial("learning_rate", gain=0.0), is_open=True)
    found = by_code(reported(diagnosis_of([issue("FL401"), issue("FL103")], None), None, None, [open_], budget=budget))
    assert found["FL401"].outcome == "issue"
    assert found["FL401"].why == "because. No fix was tried: the budget of 5 s was spent."
    assert found["FL103"].outcome == "tip"
