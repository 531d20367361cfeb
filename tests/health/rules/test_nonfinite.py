import math

import pytest

from frostline.health import judge
from frostline.health.records import Evidence, LossFacts, StepRecord
from frostline.health.rules import nonfinite
from helpers_health import losses, outcomes, record


@pytest.mark.parametrize(
    ("place", "layer", "words"),
    [
        ("input", "input", "samples 3, 5 of the batch"),
        ("target", "target", "the target of step 7"),
        ("fc1", "fc1", "is in fc1"),
        ("gradient", None, "but a gradient is not"),
    ],
)
def test_it_fires(place, layer, words):
    odd = StepRecord(7, math.nan, math.nan, (), place, (3, 5) if place == "input" else ())
    (finding,) = nonfinite.check(Evidence(records=(record(), odd)))
    assert (finding.outcome, finding.layer) == ("issue", layer)
    assert words in finding.why
    assert "step 7" in finding.why


def test_a_loss_between_samples_and_one_that_overflows_are_seen():
    assert outcomes(nonfinite, Evidence(records=(record(),), losses=losses(1.0, math.inf))) == ["issue"]
    facts = LossFacts("classes", is_finite=False)
    assert outcomes(nonfinite, Evidence(records=(record(),), loss=facts)) == ["issue"]


def test_it_stays_quiet():
    assert outcomes(nonfinite, Evidence(records=(record(),), losses=losses(1.0, 0.5))) == ["passed"]


def test_it_does_not_apply():
    (finding,) = [finding for finding in judge(Evidence()).not_judged if finding.code == "FL502"]
    assert finding.outcome == "not judged"
