import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import one_class
from frostline.diagnosis.rules.loss_records import LossAim, LossFacts
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


@pytest.mark.parametrize(
    ("only", "kind", "count", "outcome"),
    [
        ((0.0, 144), "labels", 30, "issue"),  # no anchor meets an object
        ((0.0, 144), "labels", 10, "tip"),
        ((1.0, 1), "labels", 30, "tip"),  # those of a generator
        ((0.0, 144), "ignored", 30, "not applicable"),
    ],
)
def test_rows_of_several_targets_that_are_all_the_same(only, kind, count, outcome):
    loss = LossFacts("values", aim=LossAim(kind))
    evidence = Evidence(only_target=only, loss=loss, losses=losses(*[0.1] * count))
    assert outcomes(one_class, evidence) == [outcome]
