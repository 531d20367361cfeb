from dataclasses import replace

import pytest

from frostline.diagnosis.rules import learning_rate_low
from frostline.diagnosis.rules.records import Evidence, OptimizerFacts
from helpers_health import chain, falling, losses, outcomes, records

FLAT = losses(*[1.0] * 20)


def of(ratio, told, **facts):
    return Evidence(chain(2), records(fc0={"update_ratio": ratio}), told, optimizer=OptimizerFacts(**facts))


def test_it_fires():
    assert outcomes(learning_rate_low, of(1e-6, FLAT)) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(learning_rate_low, of(5e-3, falling())) == ["passed"]


def test_the_limit():
    assert outcomes(learning_rate_low, of(9.9e-4, FLAT)) == ["tip"]
    assert outcomes(learning_rate_low, of(1.01e-3, FLAT)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(learning_rate_low, of(1e-6, FLAT, is_scheduled=True)) == ["not applicable"]
    assert outcomes(learning_rate_low, of(1e-6, losses(1.0))) == ["not judged"]


def test_the_advice_says_how_much():
    told = [learning_rate_low.check(of(ratio, FLAT))[0].advice for ratio in (1e-5, 5e-4, 0.0)]
    assert [text.split(". ")[0].rpartition(" ")[2] for text in told] == ["100", "10", "10"]


def test_without_a_trial_no_more_than_a_thousand_times_is_advised():
    assert "multiply the learning rate by 1,000. " in learning_rate_low.check(of(1e-9, FLAT))[0].advice


@pytest.mark.parametrize(("ratio", "outcome"), [(0.99e-3, "tip"), (1.01e-3, "passed")])
def test_it_reports_the_limit_that_it_decides_by(ratio, outcome):
    (finding,) = learning_rate_low.check(of(ratio, FLAT))
    assert (finding.outcome, finding.limit) == (outcome, 1e-3)


@pytest.mark.parametrize(("epochs", "outcome"), [(1.0, "not judged"), (2.0, "not judged"), (3.0, "tip"), (None, "tip")])
def test_less_than_three_epochs_are_too_short_to_call_it_low(epochs, outcome):
    (finding,) = learning_rate_low.check(replace(of(1e-4, FLAT), epochs=epochs))
    assert finding.outcome == outcome
    assert outcome == "tip" or "too short" in finding.why


def test_steps_that_blew_the_loss_up_are_not_too_small():
    assert outcomes(learning_rate_low, of(1e-6, losses(2.3, 1e9, *[4.0] * 18))) == ["not applicable"]


def test_it_says_what_was_seen():
    (finding,) = learning_rate_low.check(of(1e-4, losses(*[2.0] * 10, *[1.5] * 10)))
    assert finding.why == (
        "one step changes a layer's weights by at most 1.0e-04 of their norm; the loss fell by 25.0%."
    )
    (finding,) = learning_rate_low.check(of(1e-4, losses(*[2.0] * 10, *[3.0] * 10)))
    assert "the loss rose by 50.0%." in finding.why
    (finding,) = learning_rate_low.check(of(1e-4, losses(*[-2.0] * 10, *[-3.0] * 10)))
    assert "the loss fell by 50.0%." in finding.why
    (finding,) = learning_rate_low.check(of(1e-4, losses(*[0.0] * 20)))
    assert "the loss fell by 0.0%." in finding.why


@pytest.mark.parametrize(
    ("epochs", "ratio", "outcome"),
    [(2.4, 1e-4, "not judged"), (2.6, 1e-4, "tip"), (1.0, 0.9e-5, "tip"), (1.0, 1.1e-5, "not judged")],
)
def test_steps_that_hardly_move_anything_are_too_small_however_long_it_takes(epochs, ratio, outcome):
    assert outcomes(learning_rate_low, replace(of(ratio, FLAT), epochs=epochs)) == [outcome]


@pytest.mark.parametrize(("epochs", "words"), [(1.04, "each input was seen once"), (1.1, "are about 1.1 epochs")])
def test_how_short_is_told(epochs, words):
    assert words in learning_rate_low.check(replace(of(1e-4, FLAT), epochs=epochs))[0].why


@pytest.mark.parametrize(("ratio", "times"), [(4e-4, "10"), (2e-5, "100"), (4e-6, "100"), (2e-6, "1,000")])
def test_the_advice_brings_steps_to_what_is_usual(ratio, times):
    assert f"multiply the learning rate by {times}. " in learning_rate_low.check(of(ratio, FLAT))[0].advice


def test_it_does_not_apply_where_no_rate_would_help():
    clipped = Evidence(gradient_norms=(1e-4,) * 40, plain_gradient=1.0, skill=0.0)
    assert outcomes(learning_rate_low, clipped) == ["not applicable"]
    assert outcomes(learning_rate_low, Evidence(gradient_norms=(0.0,) * 40)) == ["not applicable"]
    assert outcomes(learning_rate_low, Evidence(stands_still=True, plain_gradient=0.0)) == ["not applicable"]
