from dataclasses import replace

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import class_numbers
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.row_records import NumberFacts
from helpers_health import outcomes

DIGITS = Evidence(numbers=NumberFacts(10, 0.94, 0.25), loss=LossFacts("values", follows_shift=True))


def test_it_fires():
    (finding,) = class_numbers.check(DIGITS)
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert "10 whole numbers" in finding.why
    assert outcomes(class_numbers, replace(DIGITS, numbers=NumberFacts(5, 0.6, 0.4))) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(class_numbers, replace(DIGITS, numbers=NumberFacts(10, 0.6, 0.55))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(class_numbers, Evidence()) == ["not applicable"]
    poisson = LossFacts("values", follows_shift=False)
    assert outcomes(class_numbers, replace(DIGITS, loss=poisson)) == ["not applicable"]
