import pytest

from frostline.health.records import Evidence, NormFacts
from frostline.health.rules import batchnorm_gap
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
