import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import nothing_moves
from frostline.diagnosis.rules.records import OptimizerFacts
from helpers_health import losses, outcomes

STILL = {"stands_still": True, "losses": losses(*[1.0] * 30)}


def test_it_fires():
    (finding,) = nothing_moves.check(Evidence(**STILL, still_gradient=0.5, gradient_norms=(0.0,) * 30))
    assert finding.outcome == "issue"
    assert finding.why.startswith("after 30 steps all trainable parameters are, to the bit, what they were before.")
    assert finding.why.endswith("a plain backward pass gives gradients of norm 0.5.")
    assert "clip_grad_norm_ with 0" in finding.advice


def test_it_stays_quiet():
    assert outcomes(nothing_moves, Evidence(stands_still=False)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(nothing_moves, Evidence()) == ["not judged"]


@pytest.mark.parametrize(
    ("lr", "norms", "advice"), [(0.0, (0.3,), "learning rate above 0"), (0.1, (0.3,), "between backward() and")]
)
def test_what_is_known_of_the_reason_is_in_the_advice(lr, norms, advice):
    evidence = Evidence(**STILL, still_gradient=0.5, gradient_norms=norms, optimizer=OptimizerFacts(lr=lr))
    (finding,) = nothing_moves.check(evidence)
    assert (finding.outcome, advice in finding.advice) == ("issue", True)


def test_a_loss_without_a_gradient_is_no_fault_of_the_steps():
    moving = {"stands_still": True, "losses": losses(*(1.0 + step for step in range(30)))}
    (finding,) = nothing_moves.check(Evidence(**moving, still_gradient=0.0))
    assert finding.outcome == "tip"
    assert "no gradient" in finding.why


def test_a_loss_that_is_the_same_at_every_step_is_an_issue():
    (finding,) = nothing_moves.check(Evidence(**STILL, still_gradient=0.0))
    assert finding.outcome == "issue"
    assert finding.why.endswith("It is 1 at every step, whatever the model answers.")
    assert "look into the loss" in finding.advice
    short = {"stands_still": True, "losses": losses(*[1.0] * 12)}
    assert outcomes(nothing_moves, Evidence(**short, still_gradient=0.0)) == ["tip"]
