import math

import pytest

from frostline.diagnosis.rules import spikes
from frostline.diagnosis.rules.records import Evidence, OutlierFacts
from helpers_health import outcomes, record


def of(*norms):
    return Evidence(gradient_norms=norms)


@pytest.mark.parametrize(("spike", "outcome"), [(50.0, "issue"), (10.0, "tip")])
def test_it_fires(spike, outcome):
    assert outcomes(spikes, of(*[1.0] * 20, spike, *[1.0] * 5)) == [outcome]
    sampled = tuple(record(at, norm=spike if at == 20 else 1.0) for at in range(30))
    assert outcomes(spikes, Evidence(records=sampled)) == [outcome]


def test_it_stays_quiet():
    assert outcomes(spikes, of(*[1.0, 2.0, 0.5] * 10)) == ["passed"]
    assert outcomes(spikes, of(100.0, 50.0, *[1.0] * 20)) == ["passed"]  # the first steps are no spikes


def test_it_does_not_apply():
    assert outcomes(spikes, of(1.0, 2.0, 3.0)) == ["not applicable"]
    assert outcomes(spikes, of(*[0.0] * 30)) == ["not applicable"]


def test_a_spike_in_a_run_that_is_too_short_says_nothing():
    assert outcomes(spikes, of(*[1.0] * 10, 50.0)) == ["not applicable"]
    assert outcomes(spikes, of(*[1.0] * 14, 50.0)) == ["not applicable"]  # the spike has too few before it
    assert outcomes(spikes, of(*[1.0] * 15, 50.0)) == ["issue"]


@pytest.mark.parametrize(("norm", "outcome"), [(7.9, "passed"), (8.1, "tip"), (19.9, "tip"), (20.1, "issue")])
def test_the_limits(norm, outcome):
    assert outcomes(spikes, of(*[1.0] * 20, norm)) == [outcome]


OUTLIERS = OutlierFacts("target", 300.0, 0.002, 4, (7,))


def test_rows_that_are_far_out_are_told_with_the_spike_or_alone():
    (finding,) = spikes.check(Evidence(gradient_norms=(*[1.0] * 20, 50.0, *[1.0] * 5), outliers=OUTLIERS))
    assert finding.outcome == "issue"
    assert finding.why.endswith("a target far out of the data, up to 300 times the usual size: batch 4 has them at 7.")
    assert finding.advice.startswith("look at those samples")
    for quiet in ((1.0,) * 30, (0.0,) * 30):  # too early to be judged, or after it nothing moves
        assert outcomes(spikes, Evidence(gradient_norms=quiet, outliers=OUTLIERS)) == ["tip"]


def test_a_run_that_soon_ends_in_no_numbers_is_judged_by_its_first_steps():
    assert outcomes(spikes, of(1.0, 1.2, 0.9, 1.1, 300.0, 1e9, math.nan, math.nan)) == ["issue"]
    assert outcomes(spikes, of(1.0, 1.2, 0.9, 1.1, 1.3, math.nan)) == ["passed"]  # it came from elsewhere
    assert outcomes(spikes, of(1.0, math.nan)) == ["not applicable"]


@pytest.mark.parametrize("early", [(0.3, 1.0, 3.0, 4.0, 3.0), (0.3, 0.3, 0.3, 3.0, 7.0)])
def test_a_long_run_that_ends_in_no_numbers_is_not_judged_by_its_first_steps(early):
    assert outcomes(spikes, of(*early, *[2.5] * 100)) == ["passed"]
    assert outcomes(spikes, of(*early, *[2.5] * 100, math.nan)) == ["passed"]
    assert outcomes(spikes, of(*early, *[2.5] * 10, 60.0, *[2.5] * 10, math.nan)) == ["issue"]


@pytest.mark.parametrize(
    ("what", "share", "words"),
    [
        ("input", 0.5, "50.0% of the samples have an input far"),
        ("target", 4e-5, "0.004% of the samples have a target far"),
    ],
)
def test_rows_are_told_with_enough_digits(what, share, words):
    rows = OutlierFacts(what, 300.0, share, 4, (7,))
    assert words in spikes.check(Evidence(gradient_norms=(1.0,) * 30, outliers=rows))[0].why


def test_a_short_run_that_is_finite_is_not_judged_by_its_first_steps():
    norms = (*[1.0] * 10, 100.0)
    assert outcomes(spikes, Evidence(gradient_norms=norms)) == ["not applicable"]
    assert outcomes(spikes, Evidence(gradient_norms=(*norms, float("nan")))) == ["issue"]
