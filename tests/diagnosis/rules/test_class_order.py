import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import class_order
from frostline.diagnosis.rules.row_records import ClassFacts
from frostline.diagnosis.rules.wiring_records import ShiftFacts, ShuffleFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = class_order.check(Evidence(classes=ClassFacts(10, 0, 1.2, 9.6), skill=0.0))
    assert (finding.outcome, finding.family) == ("issue", "order")
    assert finding.why == "a batch holds 1.2 of 10 classes; shuffled ones hold 9.6."
    assert "shuffle=True" in finding.advice


def test_it_stays_quiet():
    assert outcomes(class_order, Evidence(classes=ClassFacts(10, 0, 9.4, 9.6))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(class_order, Evidence()) == ["not applicable"]
    assert outcomes(class_order, Evidence(classes=ClassFacts(1, 0, 1.0, 1.0))) == ["not applicable"]
    assert outcomes(class_order, Evidence(classes=ClassFacts(4, 0))) == ["not applicable"]


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        (ClassFacts(751, 0, 16.0, 61.0), "passed"),  # four samples of each of sixteen classes
        (ClassFacts(2, 0, 1.0, 2.0), "issue"),
        (ClassFacts(2, 0, 1.5, 2.0), "passed"),  # small batches of two classes
    ],
)
def test_samplers_and_two_classes(facts, outcome):
    assert outcomes(class_order, Evidence(classes=facts, skill=0.0)) == [outcome]


def test_where_the_network_learns_well_it_is_a_tip():
    assert outcomes(class_order, Evidence(classes=ClassFacts(10, 0, 1.2, 9.6), skill=0.6)) == ["tip"]


def test_batches_in_order_of_real_targets():
    (finding,) = class_order.check(Evidence(shifts=ShiftFacts(between=0.9), skill=0.0))
    assert finding.outcome == "issue"
    assert "90% of the variance of the targets lies between batches" in finding.why
    assert outcomes(class_order, Evidence(shifts=ShiftFacts(between=0.9), skill=0.6)) == ["tip"]
    assert outcomes(class_order, Evidence(shifts=ShiftFacts(between=0.2), skill=0.0)) == ["not applicable"]


@pytest.mark.parametrize(("is_better", "outcome"), [(True, "issue"), (False, "tip")])
def test_where_a_random_order_was_tried_it_decides(is_better, outcome):
    shuffle = ShuffleFacts(0.1, 0.4 if is_better else 0.1, is_better)
    facts = Evidence(shifts=ShiftFacts(between=0.9), skill=0.1, shuffle=shuffle)
    (finding,) = class_order.check(facts)
    assert finding.outcome == outcome
    assert f"of the same rows, shuffled: {shuffle.shuffled:.0%}" in finding.why
