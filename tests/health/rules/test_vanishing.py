import pytest

from frostline.health.records import Evidence
from frostline.health.rules import vanishing
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


def test_the_first_sample_of_a_zero_output_layer_does_not_count():
    zero = record(0, **by_layer("gradient_norm", 0.0, 0.0, 1.0))
    later = records(6, **by_layer("gradient_norm", 0.3, 0.4, 1.0))
    assert outcomes(vanishing, Evidence(chain(3), (zero, *later))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(vanishing, of("gradient_norm", 1e-9, 1.0)) == ["not applicable"]
    assert outcomes(vanishing, of("gradient_norm", 0.0, 0.0, 0.0)) == ["not judged"]
    assert outcomes(vanishing, of("gradient_norm", 1e-9, 1e-3, 1.0, is_frozen=True)) == ["not applicable"]
    assert outcomes(vanishing, Evidence(chain(), records())) == ["not judged"]
