from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import one_class
from frostline.diagnosis.rules.row_records import ClassFacts
from helpers_health import losses, outcomes


def test_it_fires():
    (finding,) = one_class.check(Evidence(classes=ClassFacts(1, 3), losses=losses(*[0.1] * 30)))
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert finding.why == "every target of 30 batches is 3: there is nothing to learn but that."


def test_it_stays_quiet():
    assert outcomes(one_class, Evidence(classes=ClassFacts(2, 0))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(one_class, Evidence()) == ["not applicable"]


def test_few_batches_may_be_the_beginning_of_sorted_data():
    assert outcomes(one_class, Evidence(classes=ClassFacts(1, 0), losses=losses(*[0.1] * 10))) == ["tip"]
