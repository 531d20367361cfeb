from frostline.health.records import Evidence
from frostline.health.rules import oscillation
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
