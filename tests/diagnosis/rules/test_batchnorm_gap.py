import pytest

from frostline.diagnosis.rules import batchnorm_gap
from frostline.diagnosis.rules.records import Evidence, NormFacts
from helpers_health import outcomes


def judged(train, evaluated, exact, momentum=0.001):
    facts = NormFacts(("bn1",), 64, momentum, train, evaluated, exact)
    return outcomes(batchnorm_gap, Evidence(norms=facts))


@pytest.mark.parametrize(("evaluated", "outcome"), [(2.0, "issue"), (1.35, "tip")])
def test_it_fires(evaluated, outcome):
    assert judged(1.0, evaluated, 1.0) == [outcome]


@pytest.mark.parametrize(("momentum", "outcome"), [(0.1, "tip"), (0.9, "issue"), (None, "issue")])
def test_statistics_of_usual_momentum_lag_behind_for_a_while(momentum, outcome):
    assert judged(1.0, 2.0, 1.0, momentum) == [outcome]


def test_it_stays_quiet():
    assert judged(1.0, 1.05, 1.0) == ["passed"]
    assert judged(1.0, 0.5, 1.0) == ["passed"]  # better than exact is no gap
    assert judged(1.0, 1e-3, 1e-9) == ["passed"]  # next to nothing is small against the loss in training


def test_it_does_not_apply():
    assert judged(1.0, None, 1.0) == ["not applicable"]
    assert judged(1.0, 1.0, None) == ["not applicable"]
    assert outcomes(batchnorm_gap, Evidence()) == ["not applicable"]


@pytest.mark.parametrize(
    ("evaluated", "momentum", "outcome"),
    [(1.51, 0.01, "issue"), (1.49, 0.01, "tip"), (1.21, 0.01, "tip"), (1.19, 0.01, "passed"), (1.6, 0.029, "issue"),
     (1.6, 0.03, "tip"), (1.6, 0.5, "tip"), (1.6, 0.51, "issue"), (1.21, 0.1, "tip"), (1.19, 0.1, "passed")],
)  # fmt: skip
def test_the_limits(evaluated, momentum, outcome):
    assert judged(1.0, evaluated, 1.0, momentum) == [outcome]


def test_losses_below_zero_rise_by_a_share_of_their_size():
    assert judged(-2.0, -0.9, -2.0) == ["issue"]
    assert judged(-2.0, -1.9, -2.0) == ["passed"]
    assert judged(10.0, 0.4, 0.0) == ["tip"]  # of a tenth of the loss in training
    assert judged(None, 2.0, 1.0) == ["not applicable"]


def test_it_says_what_was_compared_and_what_to_do():
    facts = NormFacts(("bn1", "bn2"), 64, 0.1, 1.25, 2.0, 1.0)
    (lagging,) = batchnorm_gap.check(Evidence(norms=facts))
    assert lagging.layer == "bn1"
    assert lagging.why.startswith("the loss is 2 with running statistics, 1 with exact ones and 1.25 with batch")
    assert "momentum is 0.1. This momentum is usual" in lagging.why
    assert lagging.advice.startswith("let the learning rate fall towards the end")
    (finding,) = batchnorm_gap.check(Evidence(norms=NormFacts(("bn1",), 64, 0.001, 1.25, 2.0, 1.0)))
    assert (finding.measured, finding.limit, finding.layer) == (1.0, 0.5, "bn1")
    assert finding.advice.startswith("estimate the statistics over the whole training set")
    assert "usual" not in finding.why
