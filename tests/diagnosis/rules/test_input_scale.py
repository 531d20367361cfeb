from dataclasses import replace

import pytest

from frostline.diagnosis.rules import input_scale
from frostline.diagnosis.rules.records import Evidence, InputFacts
from helpers_health import outcomes

GOOD = InputFacts(
    mean=0.0, deviation=1.0, largest=3.0, widest=1.0, offset=0.1, unevenness=1.5, is_normalised=False, outlier=1.2
)


def judged(**changes):
    return outcomes(input_scale, Evidence(inputs=replace(GOOD, **changes)))


@pytest.mark.parametrize("changes", [{"widest": 100.0}, {"offset": 20.0}, {"unevenness": 150.0}, {"widest": 0.01}])
def test_it_fires(changes):
    assert judged(**changes) == ["issue"]


@pytest.mark.parametrize("changes", [{"widest": 15.0}, {"offset": 4.0}, {"unevenness": 50.0}, {"widest": 0.1}])
def test_what_a_training_may_get_used_to_is_a_tip(changes):
    assert judged(**changes) == ["tip"]


def test_a_mild_oddity_does_not_hide_another():
    assert judged(widest=5.0, offset=2.4) == ["tip"]
    assert judged(widest=5.0, offset=20.0) == ["issue"]


def test_it_stays_quiet():
    assert judged() == ["passed"]
    assert judged(widest=0.4, offset=1.2) == ["passed"]  # pixels from 0 to 1


def test_it_does_not_apply():
    assert judged(widest=100.0, is_normalised=True) == ["not applicable"]
    assert outcomes(input_scale, Evidence()) == ["not applicable"]


@pytest.mark.parametrize(
    ("name", "value", "outcome"),
    [("widest", 30.1, "issue"), ("widest", 29.9, "tip"), ("widest", 4.1, "tip"), ("widest", 3.9, "passed"),
     ("widest", 0.16, "passed"), ("widest", 0.14, "tip"), ("widest", 0.021, "tip"), ("widest", 0.019, "issue"),
     ("widest", 0.0, "issue"), ("offset", 10.1, "issue"), ("offset", 9.9, "tip"), ("offset", 3.1, "tip"),
     ("offset", 2.9, "passed"), ("unevenness", 100.1, "issue"), ("unevenness", 99.9, "tip"),
     ("unevenness", 30.1, "tip"), ("unevenness", 29.9, "passed")],
)  # fmt: skip
def test_the_limits(name, value, outcome):
    assert judged(**{name: value}) == [outcome]


def test_the_oddest_is_told_with_its_limit_and_the_input_it_belongs_to():
    facts = replace(GOOD, widest=15.0, offset=8.0, unevenness=31.0, name="pixels")
    (finding,) = input_scale.check(Evidence(inputs=facts))
    assert (finding.outcome, finding.measured, finding.limit) == ("tip", 8.0, 10.0)
    assert finding.why == "a feature's mean, in units of its deviation, is 8 (input pixels)."
    (finding,) = input_scale.check(Evidence(inputs=replace(GOOD, widest=0.1)))
    assert (finding.measured, finding.limit) == (0.1, 0.02)
    assert finding.why == "the largest feature has a root mean square of 0.1."
    (finding,) = input_scale.check(Evidence(inputs=replace(GOOD, unevenness=50.0)))
    assert finding.why == "the largest deviation of a feature, over the median one, is 50."
    (finding,) = input_scale.check(Evidence(inputs=replace(GOOD, name="x")))
    assert (finding.why, finding.measured, finding.limit) == ("features are of size 1 (input x).", 1.0, 30.0)
