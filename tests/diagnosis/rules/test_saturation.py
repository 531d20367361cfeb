import pytest

from frostline.diagnosis.rules import saturation
from frostline.diagnosis.rules.records import Evidence, Layer
from helpers_health import activations, outcomes, record, records


def of(share, kind="tanh"):
    return Evidence(activations(kind), records(act0={"saturated": share}))


@pytest.mark.parametrize(("share", "outcome"), [(0.9, "issue"), (0.3, "tip")])
def test_it_fires(share, outcome):
    assert outcomes(saturation, of(share)) == [outcome]


def test_the_end_counts_as_the_start_does():
    grown = tuple(record(at, act0={"saturated": 0.0 if at < 5 else 0.9}) for at in range(12))
    assert outcomes(saturation, Evidence(activations("sigmoid"), grown)) == ["issue"]


def test_it_stays_quiet():
    assert outcomes(saturation, of(0.1)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(saturation, Evidence(activations("relu"), records(act0={"dead": 0.1}))) == ["not applicable"]


@pytest.mark.parametrize(("share", "outcome"), [(0.51, "issue"), (0.49, "tip"), (0.26, "tip"), (0.24, "passed")])
def test_the_limits(share, outcome):
    (finding,) = saturation.check(of(share))
    assert (finding.outcome, finding.measured, finding.limit) == (outcome, share, 0.5)


def test_start_and_end_are_told():
    grown = tuple(record(at, act0={"saturated": 0.1 if at < 5 else 0.6}) for at in range(12))
    (finding,) = saturation.check(Evidence(activations("tanh"), grown))
    assert finding.why == "10% of the outputs of layer 'act0' are saturated at the start, 60% at the end."
    healed = tuple(record(at, act0={"saturated": 0.6 if at < 5 else 0.1}) for at in range(12))
    assert outcomes(saturation, Evidence(activations("tanh"), healed)) == ["issue"]
    (passed,) = saturation.check(of(0.2))
    assert passed.why == "at most 20% of the outputs of a layer are saturated."


def test_the_function_of_the_output_is_not_judged_and_one_between_layers_is():
    first, last = (Layer(name, "linear", "", order, False, order > 1) for name, order in (("fc0", 0), ("fc1", 2)))
    inside, outside = (Layer("act", "activation", "tanh", order, False, False) for order in (1, 3))
    rows = records(act={"saturated": 0.9})
    assert outcomes(saturation, Evidence((first, inside, last), rows)) == ["issue"]
    assert outcomes(saturation, Evidence((first, last, outside), rows)) == ["not applicable"]
    assert outcomes(saturation, Evidence((first, last), rows)) == ["not judged"]
