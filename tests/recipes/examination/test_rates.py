import pytest

from frostline.health import Evidence, Patient
from frostline.health.records import OptimizerFacts
from frostline.recipes.examination.rates import rate_remedies
from helpers_health import by_layer, chain, mlp, records, sgd, task


def rates(ratio):
    """Learning rates that are tried where a step changes that share of the weights, at a rate of 1."""
    evidence = Evidence(chain(2), records(**by_layer("update_ratio", ratio, ratio / 2)), optimizer=OptimizerFacts(1.0))
    patient = Patient(model := mlp(), sgd(model, lr=1.0))
    found = []
    for direction in rate_remedies(evidence):
        twins = [patient.copy() for _ in direction]
        for remedy, twin in zip(direction, twins, strict=True):
            remedy.apply(twin, task(1))
        found.append([twin.optimizer.param_groups[0]["lr"] for twin in twins])
    return found


def test_usual_steps_are_tried_ten_times_larger_and_smaller():
    assert rates(5e-3)[:2] == [[pytest.approx(0.1)], [pytest.approx(10.0), pytest.approx(100.0)]]


def test_the_strongest_makes_steps_usual_and_one_more_is_faster():
    slower, faster, gentle = rates(5.0)
    assert slower == pytest.approx([0.1, 0.01, 0.001], rel=0.7)
    assert slower[-1] * 5.0 == pytest.approx(5e-3, rel=0.5)
    assert faster == []  # nobody needs larger ones
    assert gentle == [pytest.approx(0.3)]
    slower, faster, _ = rates(5e-7)
    assert slower == [pytest.approx(0.1)]
    assert faster[-2] * 5e-7 == pytest.approx(5e-3, rel=0.5)
    assert faster == sorted(faster)


def test_without_a_rate_none_is_tried():
    assert rate_remedies(Evidence()) == ()


def test_with_time_the_way_is_followed_further_and_a_small_change_is_tried():
    evidence = Evidence(chain(2), records(**by_layer("update_ratio", 5e-4)), optimizer=OptimizerFacts(1.0))
    names = [[remedy.name for remedy in direction] for direction in rate_remedies(evidence)]
    assert names == [["learning rate times 0.1"], ["learning rate times 10", "learning rate times 100"],
                     ["learning rate times 0.3"]]  # fmt: skip
