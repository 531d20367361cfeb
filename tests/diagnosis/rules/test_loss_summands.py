from dataclasses import replace

import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import loss_summands
from frostline.diagnosis.rules.loss_records import Summand
from helpers_health import outcomes

ERROR = Summand("`cross_entropy`", 2.3, 0.1, 1.0, 1.0)
OTHER = Summand("`mse_loss` in line 7", 1.0, 0.2, 0.4, 0.4)


def found(*terms, skill=0.3):
    (finding,) = loss_summands.check(Evidence(summands=terms, skill=skill))
    return finding


def test_it_fires():
    assert found(ERROR, replace(OTHER, slope=None, last_slope=None)).outcome == "issue"


def test_it_stays_quiet():
    assert found(ERROR, OTHER).outcome == "passed"


def test_it_does_not_apply():
    assert outcomes(loss_summands, Evidence()) == ["not applicable"]


@pytest.mark.parametrize(("skill", "outcome"), [(None, "issue"), (0.3, "issue"), (0.9, "tip")])
def test_a_term_without_a_gradient(skill, outcome):
    finding = found(ERROR, replace(OTHER, slope=None, last_slope=None), skill=skill)
    assert finding.outcome == outcome
    assert "no gradient" in finding.why
    assert ".item()" in finding.advice


def test_a_trifle_without_a_gradient_is_left_alone():
    assert found(ERROR, replace(OTHER, first=0.01, last=0.001, slope=None)).outcome == "passed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rare": 0.9}, "exactly 0 in 90% of the batches"),
        ({"slope": 0.01, "last_slope": 0.02, "last": 0.9}, "hardly counts beside the others"),
        ({"slope": 0.01, "last": 0.9}, "hardly counts beside the others"),  # the other one is done
        ({"against": -0.97}, "works against all others"),
    ],
)
def test_terms_that_hardly_count_or_work_against_the_others_are_tips(changes, words):
    finding = found(ERROR, replace(OTHER, **changes))
    assert finding.outcome == "tip"
    assert words in finding.why
    assert "line 7" in finding.why


@pytest.mark.parametrize(
    "changes",
    [
        {"rare": 1.0},  # it may count later
        {"slope": 0.01, "last_slope": 0.02, "last": 0.9, "is_of_rows": False},  # a penalty of the weights
        {"slope": 0.01, "last_slope": 0.02, "last": 0.1},  # it falls all the same
    ],
)
def test_terms_that_may_be_meant_so(changes):
    assert found(ERROR, replace(OTHER, **changes)).outcome == "passed"


def test_two_terms_that_hold_each_other():
    held = replace(ERROR, last=2.28, last_against=-0.6)
    pulls = replace(OTHER, last=0.01, last_slope=1.0, last_against=-0.6)
    assert "work against each other in the end" in found(held, pulls).why
    assert found(held, pulls, skill=0.9).outcome == "passed"
    assert found(replace(held, last=0.5), pulls).outcome == "passed"  # it has fallen: they are at rest
    assert found(replace(held, first=0.003, last=0.3), replace(pulls, first=2.0)).outcome == "passed"
