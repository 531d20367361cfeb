from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import seen_answer
from frostline.diagnosis.rules.wiring_records import PlaceFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = seen_answer.check(Evidence(places=PlaceFacts(sees_answer=True)))
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert "causal mask" in finding.advice


def test_it_stays_quiet():
    assert outcomes(seen_answer, Evidence(places=PlaceFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(seen_answer, Evidence()) == ["not applicable"]
