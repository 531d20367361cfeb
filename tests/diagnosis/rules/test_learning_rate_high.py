import math
from dataclasses import replace

import pytest

from frostline.diagnosis.rules import learning_rate_high
from frostline.diagnosis.rules.records import Evidence, StepRecord
from helpers_health import chain, falling, losses, outcomes, record, records

RISING = losses(*(1.0 + 0.2 * at for at in range(20)))


def of(ratio, told, kept=None):
    return Evidence(chain(2), kept or records(fc0={"update_ratio": ratio}), told)


def test_it_fires():
    assert outcomes(learning_rate_high, of(0.3, RISING)) == ["issue"]
    assert outcomes(learning_rate_high, of(0.3, falling())) == ["tip"]
    assert outcomes(learning_rate_high, of(0.01, RISING)) == ["tip"]


def test_a_run_that_stopped_being_numbers_counts():
    good = tuple(record(at, fc0={"update_ratio": 0.3}) for at in range(3))
    stopped = (*good, StepRecord(3, None, math.nan, (), "fc0"))
    assert outcomes(learning_rate_high, of(0.3, falling(), stopped)) == ["issue"]


@pytest.mark.parametrize("what", ["input", "target"])
def test_data_that_are_no_numbers_are_not_its_doing(what):
    good = tuple(record(at, fc0={"update_ratio": 0.01}) for at in range(3))
    stopped = (*good, StepRecord(3, None, math.nan, (), what), StepRecord(4, None, math.nan, (), "fc0"))
    assert outcomes(learning_rate_high, of(0.01, falling(), stopped)) == ["passed"]


def test_it_stays_quiet():
    assert outcomes(learning_rate_high, of(0.01, falling())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(learning_rate_high, of(0.3, losses(1.0, 2.0))) == ["not judged"]
    assert outcomes(learning_rate_high, Evidence(chain(2), records(), RISING)) == ["not judged"]


def test_a_loss_that_blew_up_counts_whatever_the_steps_are_now():
    blown = losses(2.3, 1e9, *[4.0] * 18)
    assert outcomes(learning_rate_high, of(1e-6, blown)) == ["issue"]
    assert "rose from 2.3 at the first step to 1e+09" in learning_rate_high.check(of(1e-6, blown))[0].why
    assert outcomes(learning_rate_high, of(1e-6, losses(2.3, 1e9, *[0.1] * 18))) == ["passed"]
    assert outcomes(learning_rate_high, of(1e-6, tuple((at + 1, loss) for at, loss in blown))) == ["passed"]


@pytest.mark.parametrize(("ratio", "outcome"), [(0.031, "issue"), (0.029, "tip")])
def test_large_steps_of_a_rising_loss(ratio, outcome):
    assert outcomes(learning_rate_high, of(ratio, RISING)) == [outcome]


@pytest.mark.parametrize(("ratio", "outcome"), [(0.031, "tip"), (0.029, "passed")])
def test_large_steps_of_a_falling_loss(ratio, outcome):
    (finding,) = learning_rate_high.check(of(ratio, falling()))
    assert (finding.outcome, finding.measured, finding.limit) == (outcome, ratio, 0.05)
    assert finding.why == (
        f"one step changes a layer's weights by up to {ratio:.1%}; the loss went from 1.85 to 0.293."
    )


@pytest.mark.parametrize(
    ("last", "outcome"),
    [(1.21, "issue"), (1.19, "tip"), (-0.5, "tip")],
)
def test_a_rise_is_one_above_the_first_losses(last, outcome):
    told = losses(*[1.0] * 15, *[last] * 15)
    assert outcomes(learning_rate_high, of(0.04, told)) == [outcome]


@pytest.mark.parametrize(("last", "outcome"), [(0.66, "tip"), (0.64, "passed")])
def test_a_loss_that_turns_up_again_is_told(last, outcome):
    told = losses(*[1.0] * 10, *[0.5] * 10, *[last] * 10)
    assert outcomes(learning_rate_high, of(0.01, told)) == [outcome]


def test_steps_before_the_first_sampled_one_and_frozen_layers_do_not_count():
    first = record(0, fc0={"update_ratio": 5.0})
    kept = (first, *(record(at, fc0={"update_ratio": 0.01}) for at in range(1, 4)))
    assert outcomes(learning_rate_high, of(0, falling(), kept)) == ["passed"]
    fast = {"fc0": {"update_ratio": 0.001}, "fc1": {"update_ratio": 0.04}}
    assert outcomes(learning_rate_high, Evidence(chain(2), records(**fast), falling())) == ["tip"]
    frozen = Evidence(chain(2, is_frozen=True), records(**fast), falling())
    assert outcomes(learning_rate_high, frozen) == ["not judged"]


def test_steps_of_layers_that_start_at_zero_are_all_that_they_are():
    kept = records(fc0={"update_ratio": 0.5}, fc1={"update_ratio": 0.001})
    layers = tuple(replace(layer, starts_at_zero=layer.order == 0) for layer in chain(2))
    assert outcomes(learning_rate_high, of(0.5, falling(), kept)) == ["tip"]
    assert outcomes(learning_rate_high, Evidence(layers, kept, falling())) == ["passed"]
    alone = tuple(replace(layer, starts_at_zero=True) for layer in chain(2))
    assert outcomes(learning_rate_high, Evidence(alone, kept, RISING)) == ["issue"]


@pytest.mark.parametrize(("last", "outcome"), [(1.69, "passed"), (1.71, "tip")])
def test_a_loss_that_turned_is_told_by_its_best_and_its_first_level(last, outcome):
    values = [10.0] * 3 + [1.0] * 15 + [last] * 3  # a fifth above the best, and a twentieth of the first
    assert outcomes(learning_rate_high, of(0.01, losses(*values))) == [outcome]


def test_losses_below_zero_that_fall_do_not_rise():
    values = [-2.0] * 3 + [-2.1] * 15 + [-2.2] * 3
    assert outcomes(learning_rate_high, of(0.04, losses(*values))) == ["tip"]  # large steps, and no issue
    assert outcomes(learning_rate_high, of(0.01, losses(*values))) == ["passed"]


def test_a_run_that_rose_a_hundredfold_and_was_no_number_within_ten_steps():
    burst = losses(3.0, 2.0, 500.0, 1e7, *[math.nan] * 16)
    (finding,) = learning_rate_high.check(of(0.01, burst))
    assert finding.outcome == "issue"
    assert "rose from 3 at the first step to 1e+07, and was no number from step 4 on" in finding.why
    assert outcomes(learning_rate_high, of(0.01, losses(3.0, 2.0, 200.0, *[math.nan] * 17))) == ["not judged"]
    later = tuple((at + 1, loss) for at, loss in burst)
    assert outcomes(learning_rate_high, of(0.01, later)) == ["not judged"]


@pytest.mark.parametrize("what", ["input", "target"])
def test_a_short_run_whose_data_were_no_numbers_is_not_its_doing(what):
    good = tuple(record(at, fc0={"update_ratio": 0.01}) for at in range(3))
    stopped = (*good, StepRecord(3, None, math.nan, (), what))
    told = losses(3.0, 2.0, 500.0, *[math.nan] * 17)
    assert outcomes(learning_rate_high, of(0.01, told, stopped)) == ["not judged"]
