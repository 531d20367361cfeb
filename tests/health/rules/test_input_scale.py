from dataclasses import replace

import pytest

from frostline.health.records import Evidence, InputFacts
from frostline.health.rules import input_scale
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
