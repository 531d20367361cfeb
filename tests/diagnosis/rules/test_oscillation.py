import pytest

from frostline.diagnosis.rules import oscillation
from frostline.diagnosis.rules.records import Evidence, OptimizerFacts
from helpers_health import falling, losses, outcomes


def test_it_fires():
    waves = losses(*[1.0 if at // 5 % 2 else 2.0 for at in range(50)])
    assert outcomes(oscillation, Evidence(losses=waves)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(oscillation, Evidence(losses=falling())) == ["passed"]
    noisy = losses(*[2.0 * 0.95**at + 0.02 * (-1) ** at for at in range(50)])
    assert outcomes(oscillation, Evidence(losses=noisy)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(oscillation, Evidence(losses=losses(1.0, 2.0, 1.0))) == ["not judged"]


def steps(*levels):
    """A run whose tenths have these losses."""
    return losses(*(level for level in levels for _ in range(5)))


@pytest.mark.parametrize(
    ("levels", "outcome"),
    [((2, 1, 2, 1, 2, 1, 1, 1, 1, 1), "tip"), ((2, 1, 2, 1, 1, 1, 1, 1, 1, 1), "passed"),
     ((2, 1, 1.11, 1, 1.11, 1, 1, 1, 1, 1), "tip"), ((2, 1, 1.09, 1, 1.09, 1, 1, 1, 1, 1), "passed"),
     ((2, 0.1, 0.15, 0.1, 0.15, 0.1, 0.1, 0.1, 0.1, 0.1), "passed"),  # small against the first losses
     ((2, 0.1, 0.17, 0.1, 0.17, 0.1, 0.1, 0.1, 0.1, 0.1), "tip"),
     ((-2, -3, -2, -3, -2, -3, -3, -3, -3, -3), "tip")],
)  # fmt: skip
def test_two_rises_of_a_tenth_are_told(levels, outcome):
    (finding,) = oscillation.check(Evidence(losses=steps(*levels)))
    assert (finding.outcome, finding.limit) == (outcome, 3)
    assert (
        finding.why == f"the loss rose by a tenth or more {finding.measured:.0f} times between the tenths of the run."
    )


@pytest.mark.parametrize(("momentum", "outcome"), [(0.96, "tip"), (0.95, "passed"), (None, "passed"), (1.0, "tip")])
def test_a_high_momentum_is_told_of_a_calm_loss(momentum, outcome):
    (finding,) = oscillation.check(Evidence(losses=falling(), optimizer=OptimizerFacts(momentum=momentum)))
    assert finding.outcome == outcome
    if momentum == 0.96:
        assert finding.why == "momentum 0.96 averages over 25 steps, and overshoots for as many."
        assert (finding.measured, finding.limit) == (0.96, 0.95)


def test_rises_are_told_before_the_momentum():
    waves = Evidence(losses=steps(2, 1, 2, 1, 2, 1, 1, 1, 1, 1), optimizer=OptimizerFacts(momentum=0.99))
    assert "the loss rose" in oscillation.check(waves)[0].why


def test_a_loss_of_both_signs_is_not_judged():
    assert outcomes(oscillation, Evidence(losses=steps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1))) == ["not judged"]
    assert outcomes(oscillation, Evidence(losses=steps(2, 0, 2, 0, 2, 0, 2, 0, 2, 0))) == ["tip"]
