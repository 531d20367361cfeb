from dataclasses import replace

from frostline.health import diagnosis_of, judge
from frostline.health.records import Evidence
from frostline.health.rules import RULES, dead_units, input_scale, vanishing
from helpers_health import activations, by_layer, chain, records

VANISHING = vanishing.ABOUT.issue("small.", 0.0, 1.0, "fc0")
DEAD = dead_units.ABOUT.issue("silent.", 1.0, 0.5, "act0")
SCALE = input_scale.ABOUT.tip("large.", 9.0, 4.0)


def test_issues_come_first_then_the_more_severe():
    quiet = [rule.ABOUT.passed("fine.") for rule in RULES[:2]]
    diagnosis = diagnosis_of([SCALE, DEAD, *quiet, VANISHING], cause=None)
    assert diagnosis.findings == (VANISHING, DEAD, SCALE)
    assert diagnosis.passed == tuple(quiet)
    assert diagnosis.candidates == ("vanishing", "dead_units")
    assert diagnosis.cause is None
    assert not diagnosis.is_healthy


def test_the_cause_comes_before_what_is_worse():
    diagnosis = diagnosis_of([VANISHING, DEAD], cause="dead_units")
    assert diagnosis.findings == (DEAD, VANISHING)
    assert diagnosis.candidates == ("dead_units", "vanishing")
    assert str(diagnosis).endswith("Cause: dead_units")


def test_every_rule_answers():
    evidence = Evidence((*chain(4), *activations("relu")), records(**by_layer("gradient_norm", 1e-9, 0.1, 0.5, 1.0)))
    diagnosis = judge(evidence)
    answers = {finding.code for finding in (*diagnosis.findings, *diagnosis.passed)}
    assert answers == {rule.ABOUT.code for rule in RULES}
    assert [finding.code for finding in diagnosis.findings] == ["FL101"]
    healthy = judge(replace(evidence, records=records(**by_layer("gradient_norm", 1.0, 1.0, 1.0, 1.0))))
    assert healthy.is_healthy
    assert str(healthy).startswith("Healthy: ")


def test_where_nothing_was_seen_nothing_is_judged():
    diagnosis = judge(Evidence(chain(4), unseen=("the loop never ran.",)))
    assert {finding.outcome for finding in diagnosis.passed} == {"not applicable"}
    assert len(diagnosis.passed) == len(RULES)
    assert str(diagnosis) == "Nothing could be judged:\nthe loop never ran."
    assert str(judge(Evidence())) == "Nothing could be judged:\nno step was seen."
