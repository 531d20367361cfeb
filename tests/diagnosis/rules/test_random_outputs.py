from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import random_outputs
from frostline.diagnosis.rules.wiring_records import ModeFacts, OutsideFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = random_outputs.check(Evidence(modes=ModeFacts(redraws=0.25)))
    assert finding.outcome == "tip"
    assert "differ by 25.0% of the largest output" in finding.why


def test_it_stays_quiet():
    assert outcomes(random_outputs, Evidence(modes=ModeFacts(redraws=1e-6))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(random_outputs, Evidence()) == ["not judged"]
    assert outcomes(random_outputs, Evidence(modes=ModeFacts())) == ["not judged"]


def test_new_layers_in_forward_explain_it():
    evidence = Evidence(modes=ModeFacts(redraws=0.25), outside=OutsideFacts(made_anew=((3, 3),)))
    assert outcomes(random_outputs, evidence) == ["not applicable"]


def test_a_state_that_is_kept_is_told_from_noise():
    (finding,) = random_outputs.check(Evidence(modes=ModeFacts(redraws=0.3, remembers=True)))
    assert finding.outcome == "tip"
    assert "keeps a state from one batch to the next" in finding.why
    assert "fresh state" in finding.advice
    assert outcomes(random_outputs, Evidence(modes=ModeFacts(redraws=0.0, remembers=True))) == ["passed"]
