import math

import pytest

from frostline.diagnosis.rules import reading
from frostline.diagnosis.rules.records import Evidence, StepRecord
from helpers_health import activations, by_layer, chain, falling, losses, record, records


def test_what_comes_after_the_first_odd_step_is_not_read():
    odd = StepRecord(1, None, 1.0, (), "fc1")
    endless = record(1, norm=math.inf)
    for broken in (odd, endless):
        kept = reading.finite_records(Evidence(records=(record(0), broken, record(2))))
        assert [found.step for found in kept] == [0]


def test_numbers_of_a_layer_leave_out_what_is_missing_or_no_number():
    seen = (record(0, fc0={"dead": 0.5}), record(1), record(2, fc0={"dead": math.nan}), record(3, fc0={"mean": 1.0}))
    assert reading.of_layer(seen, "fc0", "dead") == [0.5]
    assert reading.typical([3.0, 1.0, 2.0]) == 2.0
    assert reading.typical([]) is None
    assert list(reading.samples(seen[0])) == ["fc0"]


def test_frozen_layers_and_norms_are_not_among_those_that_pass_gradients_on():
    layers = (*chain(2), *chain(3, is_frozen=True)[2:], *chain(4, "norm")[3:])
    assert reading.weighted_layers(Evidence(layers)) == ["fc0", "fc1"]
    assert len(reading.early(records(20, **by_layer("mean", 1.0)))) == 5


def test_levels_of_the_loss():
    first, best, last, noise = reading.loss_levels(Evidence(losses=falling(100)))
    assert first > last == best > 0
    assert 0 < noise < first
    assert reading.loss_levels(Evidence(losses=losses(*[1.0] * 9, math.nan))) is None
    assert reading.smoothed(Evidence(losses=losses(*range(100)))) == pytest.approx([4.5 + 10 * at for at in range(10)])
    assert reading.smoothed(Evidence(losses=losses(1.0))) == []


def test_levels_are_means_of_tenths_and_the_noise_is_that_of_the_last():
    values = [8.0] * 10 + [2.0] * 70 + [4.0, 2.0] * 10
    first, best, last, noise = reading.loss_levels(Evidence(losses=losses(*values)))
    assert (first, best, last, noise) == (8.0, 2.0, 3.0, 1.0)
    few = reading.loss_levels(Evidence(losses=losses(*[6.0, 3.0, 0.0], *[9.0] * 6, *[1.0, 2.0, 3.0])))
    assert few == (3.0, 2.0, 2.0, pytest.approx((2 / 3) ** 0.5))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 101.0, *[2.0] * 8], (1.0, 101.0, 2.0)), ([1.0, 99.0, *[2.0] * 8], None),  # a hundredfold
        ([1.0, 101.0, *[0.91] * 8], (1.0, 101.0, pytest.approx(0.91))), ([1.0, 101.0, *[0.89] * 8], None),  # and stays
        ([0.0, 101.0, *[2.0] * 8], None), ([1.0, 101.0, *[2.0] * 7], None), ([1.0, math.inf, *[2.0] * 9], None),
    ],
)  # fmt: skip
def test_a_run_that_blew_up(values, expected):
    assert reading.blow_up(Evidence(losses=losses(*values))) == expected


def test_functions_between_layers_are_not_seen():
    assert reading.has_unseen_activations(Evidence(chain(2)))
    assert not reading.has_unseen_activations(Evidence(chain(1)))
    assert not reading.has_unseen_activations(Evidence((*chain(2), *activations("relu"))))


def test_a_norm_that_was_not_measured_is_no_odd_step():
    assert len(reading.finite_records(Evidence(records=(record(0, norm=None), record(1))))) == 2


@pytest.mark.parametrize(("count", "is_enough"), [(9, False), (10, True)])
def test_ten_losses_are_enough(count, is_enough):
    evidence = Evidence(losses=losses(*[1.0] * count))
    assert (reading.loss_levels(evidence) is not None) is is_enough
    assert bool(reading.smoothed(evidence)) is is_enough
