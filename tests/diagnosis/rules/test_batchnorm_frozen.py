from frostline.diagnosis.rules import batchnorm_frozen
from frostline.diagnosis.rules.records import Evidence, NormFacts
from helpers_health import outcomes


def test_it_fires():
    evidence = Evidence(norms=NormFacts(("bn1", "bn2"), moving_in_frozen=("bn1", "bn2")))
    assert outcomes(batchnorm_frozen, evidence) == ["issue", "issue"]
    assert [finding.layer for finding in batchnorm_frozen.check(evidence)] == ["bn1", "bn2"]


def test_it_stays_quiet():
    assert outcomes(batchnorm_frozen, Evidence(norms=NormFacts(("bn1",)))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(batchnorm_frozen, Evidence()) == ["not applicable"]


def test_the_layer_is_named_in_the_advice():
    (finding,) = batchnorm_frozen.check(Evidence(norms=NormFacts(("bn1", "bn2"), moving_in_frozen=("bn2",))))
    assert finding.advice.endswith("fl.freeze(model, patterns=['bn2']).")
    assert finding.why == "layer 'bn2' is frozen, but its running statistics moved."
