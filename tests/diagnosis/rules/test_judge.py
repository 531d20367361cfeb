from dataclasses import replace

import pytest

from frostline.diagnosis import all_of, diagnosis_of, judge, judge_loop
from frostline.diagnosis.rules import (
    RULES,
    dead_units,
    idle_parts,
    input_scale,
    loss_summands,
    nothing_learnt,
    spikes,
    vanishing,
)
from frostline.diagnosis.rules.records import Evidence
from helpers_health import activations, by_layer, chain, falling, losses, records

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
    answers = {finding.code for finding in all_of(diagnosis)}
    assert answers == {rule.ABOUT.code for rule in RULES}
    assert [finding.code for finding in diagnosis.findings] == ["FL101"]
    healthy = judge(replace(evidence, records=records(**by_layer("gradient_norm", 1.0, 1.0, 1.0, 1.0))))
    assert healthy.is_healthy
    assert str(healthy).startswith("No symptoms found. ")


def test_where_nothing_was_seen_nothing_is_judged():
    diagnosis = judge(Evidence(chain(4), unseen=("the loop never ran.",)))
    assert {finding.outcome for finding in diagnosis.not_judged} == {"not judged"}
    assert len(diagnosis.not_judged) == len(RULES)
    assert diagnosis.passed == ()
    assert str(diagnosis) == "Nothing could be judged:\nthe loop never ran."
    assert str(judge(Evidence())) == "Nothing could be judged:\nno step was measured."


def test_healthy_is_said_only_where_every_rule_that_applies_was_asked():
    passed, silent = RULES[0].ABOUT.passed("fine."), RULES[1].ABOUT.not_judged("the loss was not seen.")
    assert str(diagnosis_of([passed], None)) == "No symptoms found. 1 rule passed."
    first, second = str(diagnosis_of([passed, silent], None)).splitlines()
    assert first == "No symptoms found. 1 rule passed; 1 could not be evaluated."
    assert second == "Could not be evaluated: FL503 output and loss do not fit: the loss was not seen."
    assert "training may be fine" in str(diagnosis_of([passed, SCALE], None))
    assert "training may be fine" not in str(diagnosis_of([passed, silent, SCALE], None))


def test_training_is_not_called_fine_where_nothing_is_learnt():
    for rule in (nothing_learnt, idle_parts):
        text = str(diagnosis_of([rule.ABOUT.tip("nothing.", 0.0, 0.1)], None))
        assert "training may be fine" not in text
        assert "could not be judged" in text


def test_a_layer_is_told_with_its_type_and_sizes():
    layers = tuple(replace(layer, type="Linear, 784 to 64") for layer in chain(4))
    diagnosis = judge(Evidence(layers, records(**by_layer("gradient_norm", 1e-9, 0.1, 0.5, 1.0))))
    assert str(diagnosis).startswith("FL101 issue: vanishing gradients in layer 'fc0' (Linear, 784 to 64)\n")
    assert diagnosis.findings[0].layer == "fc0"


def test_what_stops_a_training_comes_before_what_slows_it():
    """The order in which findings of all rules are shown; those of one line are as severe as each other."""
    groups = [
        {"FL502"},  # values that are no numbers
        {
            "FL301",
            "FL405",
            "FL406",
            "FL503",
            "FL504",
            "FL507",
            "FL508",
            "FL510",
            "FL515",
            "FL516",
            "FL604",
        },  # nothing that is learnt would be what is wanted
        {"FL102", "FL404", "FL407", "FL411", "FL412", "FL506", "FL509", "FL511", "FL513", "FL514", "FL518"},
        {"FL101", "FL408", "FL501", "FL512", "FL517", "FL520", "FL601", "FL605", "FL606", "FL607"},
        {"FL103", "FL201", "FL202", "FL409", "FL410", "FL519", "FL602"},
        {"FL302", "FL505", "FL603"},
        {"FL401", "FL403"},
        {"FL402", "FL413"},
    ]
    for rules in (RULES, RULES[::-1]):
        shown = [f.code for f in diagnosis_of([rule.ABOUT.issue("x.", 1.0, 1.0) for rule in rules], None).findings]
        for group in groups:
            assert set(shown[: len(group)]) == group
            shown = shown[len(group) :]
        assert not shown


def test_that_nothing_is_learnt_comes_behind_the_tips_that_say_of_what():
    tips = [nothing_learnt.ABOUT.tip("nothing.", 0.0, 0.1), loss_summands.ABOUT.tip("rare.", 0.9, 0.75)]
    tips += [spikes.ABOUT.tip("spikes.", 9.0, 8.0)]
    assert [one.code for one in diagnosis_of(tips, None).findings] == ["FL519", "FL103", "FL404"]
    assert [one.code for one in diagnosis_of([tips[0], tips[2]], None).findings] == ["FL404", "FL103"]
    issue = nothing_learnt.ABOUT.issue("nothing.", 0.0, 0.1)
    assert [one.code for one in diagnosis_of([tips[1], issue], None).findings] == ["FL404", "FL519"]


@pytest.mark.parametrize(("seen", "outcome"), [(falling(), "tip"), (losses(*[1.0] * 40), "issue"), ((), "issue")])
def test_dead_units_are_an_issue_of_a_loop_only_where_its_loss_has_not_fallen(seen, outcome):
    evidence = Evidence(activations("relu"), records(act0={"dead": 0.9}), losses=seen)
    (finding,) = [own for own in judge_loop(evidence).findings if own.code == "FL201"]
    assert finding.outcome == outcome
    assert finding.why.endswith("all the same.") == (outcome == "tip")
    (finding,) = [own for own in judge(evidence).findings if own.code == "FL201"]
    assert finding.outcome == "issue"  # a checkup tries the cure


def test_a_loss_below_zero_that_falls_says_nothing():
    evidence = Evidence(
        activations("relu"), records(act0={"dead": 0.9}), losses=losses(*[-float(k) for k in range(40)])
    )
    assert "FL201" in {own.code for own in judge_loop(evidence).findings if own.outcome == "issue"}
