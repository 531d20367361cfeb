import re
from dataclasses import FrozenInstanceError

import pytest

from frostline.diagnosis.rules import RULES
from frostline.diagnosis.rules.contract import About

ABOUT = About("FL999", "nothing", "vanishing", "do this.", 3)


def test_a_finding_says_what_was_measured_and_what_to_do():
    finding = ABOUT.issue("because.", 2.0, 1.0, "fc")
    assert (finding.code, finding.outcome, finding.layer, finding.measured, finding.limit) == (
        "FL999", "issue", "fc", 2.0, 1.0,
    )  # fmt: skip
    assert str(finding) == "FL999 issue: nothing in fc\n  because.\n  Do: do this."
    assert ABOUT.tip("because.", None, None).outcome == "tip"


def test_where_all_is_well_there_is_nothing_to_do():
    assert ABOUT.passed("fine.").advice == ABOUT.not_applicable("no such layer.").advice == "nothing."


def test_codes_are_stable_unique_and_in_families():
    codes = [rule.ABOUT.code for rule in RULES]
    assert len(set(codes)) == len(codes) == 47
    assert all(re.fullmatch(r"FL[1-6](0[1-9]|1[0-9]|20)", code) for code in codes)
    assert {rule.ABOUT.family for rule in RULES} == {
        "vanishing", "exploding", "dead_units", "saturation", "symmetry", "initialization", "learning_rate",
        "oscillation", "input_scale", "nonfinite", "gradient_spikes", "batchnorm", "loss_mismatch", "accumulation",
        "wiring", "mode", "order", "targets", "schedule", "shared", "weight_decay", "dropout", "clip", "reshape",
        "dropped_outputs", "side_effects", "overfitting",
    }  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.ABOUT.code)
def test_every_rule_is_documented_by_what_it_says(rule):
    about = rule.ABOUT
    assert rule.__doc__.startswith(f"{about.code}: ")
    assert 0 <= about.severity <= 10
    assert about.advice.endswith(".")
    with pytest.raises(FrozenInstanceError):
        about.code = "FL000"
