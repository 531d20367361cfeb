from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import evaluation_mode
from frostline.diagnosis.rules.wiring_records import LoopFacts, ModeFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = evaluation_mode.check(Evidence(modes=ModeFacts(never_updated=("bn1",), silent=("drop",))))
    assert (finding.outcome, finding.layer, finding.family) == ("issue", "bn1", "mode")
    assert "it normalises nothing" in finding.why
    assert "model.train()" in finding.advice


def test_it_stays_quiet():
    assert outcomes(evaluation_mode, Evidence(modes=ModeFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(evaluation_mode, Evidence()) == ["not judged"]


def test_what_may_be_meant_is_a_tip():
    (finding,) = evaluation_mode.check(Evidence(modes=ModeFacts(updated_before=("bn1", "bn2"), silent=("drop",))))
    assert (finding.outcome, finding.layer, finding.measured) == ("tip", None, 3.0)
    assert finding.why.startswith("bn1, bn2, drop: BatchNorm and dropout in evaluation mode")


def test_a_loop_that_stays_in_evaluation_mode():
    (finding,) = evaluation_mode.check(Evidence(loop=LoopFacts(90, 90, evaluated=40, silent=("norm",))))
    assert (finding.outcome, finding.family) == ("issue", "mode")
    assert "at the last 40 reported losses, and in training mode before: norm" in finding.why
    assert "again after each validation" in finding.advice
    assert outcomes(evaluation_mode, Evidence(loop=LoopFacts(90, 90, evaluated=5, silent=("norm",)))) == ["not judged"]
    assert outcomes(evaluation_mode, Evidence(loop=LoopFacts(90, 90, evaluated=40))) == ["not judged"]
