import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import wrong_slopes
from frostline.diagnosis.rules.wiring_records import FunctionSlope, SlopeFacts
from helpers_health import outcomes


def test_it_fires():
    facts = SlopeFacts((FunctionSlope("Swish", "act", 1.0, 2.0),), (("fc", 0.5),), 3)
    (finding,) = wrong_slopes.check(Evidence(slopes=facts, skill=0.99))
    assert (finding.outcome, finding.layer) == ("issue", "act")
    assert "gradcheck(Swish.apply" in finding.advice


@pytest.mark.parametrize(("skill", "outcome"), [(None, "tip"), (0.5, "tip"), (0.9, "passed")])
def test_a_gradient_that_is_cut_on_one_of_several_ways(skill, outcome):
    evidence = Evidence(slopes=SlopeFacts((), (("fc", 0.5), ("", 0.2)), 3), skill=skill)
    assert outcomes(wrong_slopes, evidence) == [outcome]


def test_it_stays_quiet():
    assert outcomes(wrong_slopes, Evidence(slopes=SlopeFacts(asked=2))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(wrong_slopes, Evidence()) == ["not judged"]
    assert outcomes(wrong_slopes, Evidence(slopes=SlopeFacts())) == ["not judged"]
