import pytest

from frostline.health.records import Evidence, NormFacts
from frostline.health.rules import batchnorm_batch
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
