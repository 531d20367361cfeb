from dataclasses import replace

import pytest

from frostline.diagnosis.rules import vanishing
from frostline.diagnosis.rules.records import Evidence
from helpers_health import by_layer, chain, outcomes, record, records


def of(field, *values, **options):
    return Evidence(chain(len(values), **options), records(**by_layer(field, *values)))


@pytest.mark.parametrize(("first", "outcome"), [(1e-6, "issue"), (3e-3, "tip")])
def test_it_fires(first, outcome):
    evidence = of("gradient_norm", first, 0.01, 0.1, 1.0)
    assert outcomes(vanishing, evidence) == [outcome]
    assert vanishing.check(evidence)[0].layer == "fc0"


@pytest.mark.parametrize(("last", "outcome"), [(1e-3, "issue"), (0.1, "tip")])
def test_it_fires_where_the_signal_is_lost_on_its_way_up(last, outcome):
    assert outcomes(vanishing, of("deviation", 1.0, 0.5, last, 1.0)) == [outcome]


def test_it_stays_quiet():
    assert outcomes(vanishing, of("gradient_norm", 0.2, 0.4, 1.0)) == ["passed"]
    assert outcomes(vanishing, of("gradient_norm", 1.0, 0.4, 1e-9)) == ["passed"]  # that is not vanishing


def test_one_layer_of_many_that_gets_little_beside_others_that_get_all_is_no_loss_of_gradients():
    assert outcomes(vanishing, of("gradient_norm", 1e-5, 0.2, *[0.5] * 5, 1.0)) == ["passed"]  # query, key
    assert outcomes(vanishing, of("gradient_norm", 1e-6, 1e-5, *[1e-3] * 5, 1.0)) == ["issue"]


def test_the_first_sample_of_a_zero_output_layer_does_not_count():
    zero = record(0, **by_layer("gradient_norm", 0.0, 0.0, 1.0))
    later = records(6, **by_layer("gradient_norm", 0.3, 0.4, 1.0))
    assert outcomes(vanishing, Evidence(chain(3), (zero, *later))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(vanishing, of("gradient_norm", 1e-9, 1.0)) == ["not applicable"]
    assert outcomes(vanishing, of("gradient_norm", 0.0, 0.0, 0.0)) == ["not judged"]
    assert outcomes(vanishing, of("gradient_norm", 1e-9, 1e-3, 1.0, is_frozen=True)) == ["not applicable"]
    assert outcomes(vanishing, Evidence(chain(), records())) == ["not judged"]


@pytest.mark.parametrize(
    ("first", "outcome"), [(0.99e-3, "issue"), (1.01e-3, "tip"), (5.9e-3, "tip"), (6.1e-3, "passed")]
)
def test_the_limits_of_gradients(first, outcome):
    (finding,) = vanishing.check(of("gradient_norm", first, 0.5, 1.0))
    assert (finding.outcome, finding.measured, finding.limit) == (outcome, first, 1e-3)
    assert finding.why == (
        f"the gradient norm of layer 'fc0' is {first:.0e} of that of layer 'fc2' ({first:.1e} against 1.0e+00)."
    )


@pytest.mark.parametrize(("last", "outcome"), [(0.058, "issue"), (0.062, "tip"), (0.35, "tip"), (0.37, "passed")])
def test_the_limits_of_outputs(last, outcome):
    (finding,) = vanishing.check(of("deviation", 2.0, 1.0, last, 5.0))
    assert (finding.outcome, finding.measured, finding.limit) == (outcome, last / 2, 0.03)
    assert finding.why == (
        f"the standard deviation of outputs shrinks from 2 in layer 'fc0' to {last:.1g} in layer 'fc2'."
    )


def test_what_is_worse_is_told():
    rows = [{"gradient_norm": g, "deviation": d} for g, d in ((1e-5, 1.0), (0.1, 1.0), (0.1, 0.02), (1.0, 1.0))]
    numbers = {f"fc{at}": fields for at, fields in enumerate(rows)}
    assert vanishing.check(Evidence(chain(4), records(**numbers)))[0].layer == "fc0"
    numbers["fc0"]["gradient_norm"] = 0.9e-3
    assert vanishing.check(Evidence(chain(4), records(**numbers)))[0].layer == "fc2"


def test_one_sample_is_better_than_none_and_late_ones_do_not_count():
    only = record(0, **by_layer("gradient_norm", 1e-6, 0.4, 1.0))
    assert outcomes(vanishing, Evidence(chain(3), (only,))) == ["issue"]
    late = tuple(record(at, **by_layer("gradient_norm", 0.5 if at < 6 else 1e-9, 0.4, 1.0)) for at in range(30))
    assert outcomes(vanishing, Evidence(chain(3), late)) == ["passed"]


def test_two_hidden_layers_or_silent_ones_have_no_way_to_shrink_on():
    assert outcomes(vanishing, of("deviation", 1.0, 1e-9, 1.0)) == ["not judged"]
    assert outcomes(vanishing, of("deviation", 0.0, 0.0, 0.0, 1.0)) == ["not judged"]


def test_of_two_samples_the_second_is_judged():
    zero = record(0, **by_layer("gradient_norm", 0.0, 0.0, 1.0))
    for first, outcome in ((0.3, "passed"), (1e-6, "issue")):
        later = record(1, **by_layer("gradient_norm", first, 0.4, 1.0))
        assert outcomes(vanishing, Evidence(chain(3), (zero, later))) == [outcome]


def test_layers_behind_a_zero_factor_are_compared_with_each_other():
    """`fc0` and `fc2` got nothing at the first step: the matrices behind them were zero (LoRA)."""
    start = record(0, **by_layer("gradient_norm", 0.0, 1.0, 0.0, 1.0))
    for second, outcome in ((2e-5, "passed"), (1.0, "issue")):
        later = records(6, **by_layer("gradient_norm", 1e-5, 1.0, second, 1.0))
        assert outcomes(vanishing, Evidence(chain(4), (start, *later))) == [outcome]


def test_layers_in_a_block_with_a_small_scale_are_compared_with_each_other():
    layers = tuple(replace(layer, is_held=layer.order < 2) for layer in chain(4))
    for second, outcome in ((2e-6, "passed"), (1.0, "issue")):
        evidence = Evidence(layers, records(**by_layer("gradient_norm", 1e-6, second, 1.0, 1.0)))
        assert outcomes(vanishing, evidence) == [outcome]


def test_the_outputs_of_layers_that_start_at_zero_say_nothing():
    layers = tuple(replace(layer, starts_at_zero=layer.order == 3) for layer in chain(5))
    evidence = Evidence(layers, records(**by_layer("deviation", 1.0, 1.0, 1.0, 1e-6, 1.0)))
    assert outcomes(vanishing, evidence) == ["passed"]
    assert outcomes(vanishing, replace(evidence, layers=chain(5))) == ["issue"]
