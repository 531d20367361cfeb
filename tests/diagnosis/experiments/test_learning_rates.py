import pytest

from frostline.diagnosis import Evidence, Patient
from frostline.diagnosis.experiments.learning_rates import is_rising, next_lower, rate_remedies
from frostline.diagnosis.rules.records import OptimizerFacts
from helpers_health import by_layer, chain, mlp, record, records, sgd, task


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


def seen(*ratios, **optimizer):
    """A run whose first layer was changed by these shares of its weights, the second by a third of it."""
    rows = tuple(record(at, fc0={"update_ratio": r}, fc1={"update_ratio": r / 3}) for at, r in enumerate(ratios))
    return Evidence(chain(2), rows, optimizer=OptimizerFacts(**{"lr": 1.0, **optimizer}))


def names(evidence):
    return [[remedy.name.split()[-1] for remedy in direction] for direction in rate_remedies(evidence)]


@pytest.mark.parametrize(
    ("ratios", "slower", "faster"),
    [
        ((), ["0.1", "0.01"], ["10", "100", "1,000"]),  # of steps of an unknown size
        ((5e-3,), ["0.1"], ["10", "100"]),
        ((0.5, 0.5, 0.5, *[5e-4] * 9), ["0.1", "0.01"], ["10", "100"]),  # the first steps say how much slower
        ((0.5, 0.5, 5e-4, 5e-4, 0.5, 0.5), ["0.1", "0.01"], []),
        ((0.5, *[1.1e-2] * 5), ["0.1"], []), ((0.5, *[0.9e-2] * 5), ["0.1"], ["10", "100"]),
        ((0.5, 5e-4), ["0.1", "0.02"], ["10", "100"]),
        ((2e-2, 2e-2, 2e-2, 1e-4, 1e-4, 1e-4, 1e-4), ["0.1"], ["10", "50", "500"]),
        ([1e-12] * 4, ["0.1"], ["10", "200", "5,000", "100,000", "1,000,000"]),  # no further than 100,000, and one more
        ([1e6] * 4, ["0.1", "0.003", "0.0001"], []),
    ],
)  # fmt: skip
def test_how_far_other_rates_go(ratios, slower, faster):
    assert names(seen(*ratios)) == [slower, faster, ["0.3"]]


def test_the_advice_says_both_rates():
    (slower, faster, gentle) = rate_remedies(seen(5e-3, lr=0.02))
    assert slower[0].advice == "multiply the learning rate by 0.1: 0.02 becomes 0.002."
    assert faster[-1].advice == "multiply the learning rate by 100: 0.02 becomes 2."
    assert gentle[0].advice == "multiply the learning rate by 0.3: 0.02 becomes 0.006."
    assert [remedy.code for remedy in (*slower, *faster, *gentle)] == ["FL401", "FL402", "FL402", "FL401"]
    assert len({remedy.key for remedy in (*slower, *faster, *gentle)}) == 4
    assert not any(remedy.needs_symptom or remedy.is_structural for remedy in (*slower, *faster, *gentle))


@pytest.mark.parametrize(
    ("ratios", "optimizer", "expected"),
    [
        ((9.0, *[1e-4] * 3, *[1e-3] * 3, *[2.1e-4] * 3), {"is_scale_free": True}, True),
        ((9.0, *[1e-4] * 3, *[1e-3] * 3, *[1.9e-4] * 3), {"is_scale_free": True}, False),
        ((9.0, *[1e-4] * 3, *[1e-3] * 3, *[2.1e-4] * 3), {}, False),  # gradients may have grown
        ([1e-4] * 9, {"is_scheduled": True}, True), ([1e-4] * 9, {"is_scale_free": True}, False),
        ((9.0, 1e-4, 1e-4, 1e-2), {"is_scale_free": True}, True), ((9.0, 1e-4, 1e-2), {"is_scale_free": True}, False),
        ((), {"is_scale_free": True}, False),
    ],
)  # fmt: skip
def test_steps_that_get_larger_may_be_a_warm_up(ratios, optimizer, expected):
    assert is_rising(seen(*ratios, **optimizer)) is expected


def test_where_nothing_is_learnt_slower_rates_go_on_to_a_thousandth():
    evidence = Evidence(chain(2), records(**by_layer("update_ratio", 5e-3, 5e-3)), optimizer=OptimizerFacts(1.0))
    slower, _faster, _gentle = rate_remedies(evidence, is_stuck=True)
    assert [one.rate for one in slower] == pytest.approx([0.1, 0.01, 0.001])
    assert [one.rate for one in rate_remedies(evidence)[0]] == pytest.approx([0.1])


def test_below_a_rate_that_has_won_a_third_of_it_is_tried():
    evidence = Evidence(chain(2), records(**by_layer("update_ratio", 5e-2, 5e-2)), optimizer=OptimizerFacts(2.0))
    slower, faster, _gentle = rate_remedies(Evidence(chain(2), optimizer=OptimizerFacts(2.0)))
    lower = next_lower(slower[0], evidence)
    assert (lower.rate, lower.advice) == (0.03, "multiply the learning rate by 0.03: 2 becomes 0.06.")
    assert next_lower(lower, evidence).rate == 0.009
    assert next_lower(faster[0], evidence) is None  # of slower ones only
