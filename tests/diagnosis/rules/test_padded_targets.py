from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import padded_targets
from frostline.diagnosis.rules.wiring_records import PlaceFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = padded_targets.check(Evidence(places=PlaceFacts(0.9, 0)))
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert finding.why.startswith("90% of the places are padding (label 0")
    assert outcomes(padded_targets, Evidence(places=PlaceFacts(0.3, 0))) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(padded_targets, Evidence(places=PlaceFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(padded_targets, Evidence()) == ["not applicable"]
