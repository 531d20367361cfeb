from dataclasses import replace

import pytest

from frostline.diagnosis.rules import batchnorm_batch
from frostline.diagnosis.rules.records import Evidence, NormFacts
from helpers_health import outcomes


def judged(count):
    return outcomes(batchnorm_batch, Evidence(norms=NormFacts(("bn1",), smallest_batch=count)))


@pytest.mark.parametrize(("count", "outcome"), [(2, "issue"), (6, "tip")])
def test_it_fires(count, outcome):
    assert judged(count) == [outcome]


def test_it_stays_quiet():
    assert judged(64) == ["passed"]


def test_it_does_not_apply():
    assert judged(None) == ["not applicable"]
    assert outcomes(batchnorm_batch, Evidence()) == ["not applicable"]


@pytest.mark.parametrize(("count", "outcome"), [(4, "issue"), (5, "tip"), (8, "tip"), (9, "passed")])
def test_the_limits_and_what_is_told(count, outcome):
    (finding,) = batchnorm_batch.check(Evidence(norms=NormFacts(("bn1", "bn2"), smallest_batch=count)))
    assert (finding.outcome, finding.measured, finding.limit) == (outcome, count, 4)
    assert finding.layer == (None if outcome == "passed" else "bn1")
    assert finding.why == f"each channel's batch statistics come from only {count} values."


@pytest.mark.parametrize(
    ("own", "others", "outcome"),
    [(0.3, 1.8, "issue"), (0.3, 0.4, "tip"), (0.01, 0.03, "tip"), (None, None, "tip"), (0.3, None, "tip")],
)
def test_statistics_of_one_sample_are_no_statistics_whatever_its_size(own, others, outcome):
    facts = NormFacts(("bn1",), smallest_batch=64, num_samples=1, train_loss=own, exact_loss=others)
    (finding,) = batchnorm_batch.check(Evidence(norms=facts))
    assert (finding.outcome, finding.layer) == (outcome, "bn1")
    assert "one sample (64 values)" in finding.why
    assert ("0.3 with these, and 1.8 with statistics of all samples" in finding.why) == (outcome == "issue")
    assert outcomes(batchnorm_batch, Evidence(norms=replace(facts, num_samples=2))) == ["passed"]
