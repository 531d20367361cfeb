from frostline.health.records import Evidence, OptimizerFacts
from frostline.health.rules import learning_rate_low
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
    assert outcomes(learning_rate_low, of(1e-6, losses(1.0))) == ["not applicable"]


def test_the_advice_says_how_much():
    assert [learning_rate_low.check(of(ratio, FLAT))[0].advice for ratio in (1e-6, 5e-4, 0.0)] == [
        "multiply the learning rate by 1,000.", *["multiply the learning rate by 10."] * 2
    ]  # fmt: skip


def test_steps_that_blew_the_loss_up_are_not_too_small():
    assert outcomes(learning_rate_low, of(1e-6, losses(2.3, 1e9, *[4.0] * 18))) == ["not applicable"]
