from dataclasses import replace

import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import by_heart
from frostline.diagnosis.rules.row_records import HeartFacts
from helpers_health import outcomes

LEARNT = HeartFacts(1.0, 0.7, 0.01, 0.9, rows=400, times=30.0)
WELL = HeartFacts(0.98, 0.96, 0.05, 0.1, rows=1400, times=4.0)


def test_it_fires():
    (finding,) = by_heart.check(Evidence(heart=LEARNT, level=2.3))
    assert (finding.outcome, finding.family) == ("tip", "overfitting")
    assert "the 400 different rows that are trained on come 30 times each" in finding.why


def test_it_stays_quiet():
    assert outcomes(by_heart, Evidence(heart=WELL, level=2.3)) == ["passed"]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"rows": 64, "times": 80.0}, "tip"),
        ({"rows": 4, "times": 800.0}, "passed"),  # a truth table
        ({"in_a_row": 8.0}, "tip"),
        ({"held_out_loss": 0.9}, "tip"),
        ({"held_out_loss": 0.9, "times": 1.0}, "passed"),
    ],
)
def test_others(changes, outcome):
    assert outcomes(by_heart, Evidence(heart=replace(WELL, **changes), level=2.3)) == [outcome]


def test_batches_in_a_row_are_of_the_order():
    (finding,) = by_heart.check(Evidence(heart=replace(WELL, in_a_row=24.0), level=2.3))
    assert finding.family == "order"
    assert "24 times in a row" in finding.why


def test_it_does_not_apply():
    assert outcomes(by_heart, Evidence()) == ["not judged"]
