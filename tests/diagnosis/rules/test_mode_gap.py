from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import mode_gap
from frostline.diagnosis.rules.wiring_records import ModeFacts
from helpers_health import outcomes

LOSSES = tuple((step, 2.0) for step in range(3))


def gap(train, evaluation):
    return Evidence(modes=ModeFacts(train_loss=train, eval_loss=evaluation), losses=LOSSES)


def test_it_fires():
    (finding,) = mode_gap.check(gap(0.3, 2.2))
    assert (finding.outcome, finding.family) == ("issue", "mode")
    assert "0.3 in training mode and 2.2 in evaluation mode" in finding.why
    assert outcomes(mode_gap, gap(0.5, 1.0)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(mode_gap, gap(0.9, 0.4)) == ["passed"]  # dropout
    assert outcomes(mode_gap, gap(1e-6, 1e-4)) == ["passed"]  # learnt by heart


def test_it_does_not_apply():
    assert outcomes(mode_gap, Evidence()) == ["not applicable"]
    assert outcomes(mode_gap, Evidence(modes=ModeFacts())) == ["not applicable"]
