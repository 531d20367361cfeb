from frostline.health.records import Evidence, NormFacts
from frostline.health.rules import batchnorm_frozen
from helpers_health import outcomes


def test_it_fires():
    evidence = Evidence(norms=NormFacts(("bn1", "bn2"), moving_in_frozen=("bn1", "bn2")))
    assert outcomes(batchnorm_frozen, evidence) == ["issue", "issue"]
    assert [finding.layer for finding in batchnorm_frozen.check(evidence)] == ["bn1", "bn2"]


def test_it_stays_quiet():
    assert outcomes(batchnorm_frozen, Evidence(norms=NormFacts(("bn1",)))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(batchnorm_frozen, Evidence()) == ["not applicable"]
