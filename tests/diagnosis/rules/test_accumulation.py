from frostline.diagnosis.rules import accumulation
from frostline.diagnosis.rules.records import Evidence
from helpers_health import outcomes


def test_it_fires():
    assert outcomes(accumulation, Evidence(has_accumulated=True)) == ["issue"]


def test_it_stays_quiet():
    assert outcomes(accumulation, Evidence(has_accumulated=False)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(accumulation, Evidence()) == ["not applicable"]
