from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import strong_dropout
from frostline.diagnosis.rules.wiring_records import ModeFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = strong_dropout.check(Evidence(modes=ModeFacts(dropout=0.9), skill=0.3))
    assert (finding.outcome, finding.family) == ("tip", "dropout")
    assert "up to 90%" in finding.why
    assert outcomes(strong_dropout, Evidence(modes=ModeFacts(dropout=0.5), skill=0.0)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(strong_dropout, Evidence(modes=ModeFacts(dropout=0.5), skill=0.6)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(strong_dropout, Evidence(modes=ModeFacts())) == ["not applicable"]
    assert outcomes(strong_dropout, Evidence()) == ["not judged"]
