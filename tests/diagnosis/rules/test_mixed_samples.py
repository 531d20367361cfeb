from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import mixed_samples
from helpers_health import outcomes


def test_it_fires():
    assert outcomes(mixed_samples, Evidence(mixes=True)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(mixed_samples, Evidence(mixes=False)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(mixed_samples, Evidence()) == ["not applicable"]
