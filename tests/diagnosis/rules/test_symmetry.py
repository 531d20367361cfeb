import pytest

from frostline.diagnosis.rules import symmetry
from frostline.diagnosis.rules.records import Evidence
from helpers_health import chain, outcomes, record


def of(share, layer="fc1"):
    return Evidence(chain(3), (record(),), alike=((layer, share),))


@pytest.mark.parametrize(("share", "outcome"), [(0.9, "issue"), (0.2, "tip")])
def test_it_fires(share, outcome):
    assert outcomes(symmetry, of(share)) == [outcome]


def test_it_stays_quiet():
    assert outcomes(symmetry, of(0.05)) == ["passed"]
    assert outcomes(symmetry, of(0.9, "fc2")) == ["passed"]  # the output layer may start at zero


def test_it_does_not_apply():
    assert outcomes(symmetry, Evidence(chain(3), alike=(("fc1", 0.9),))) == ["not applicable"]
    assert outcomes(symmetry, Evidence(chain(1), (record(),))) == ["not applicable"]


@pytest.mark.parametrize(("share", "outcome"), [(0.51, "issue"), (0.49, "tip"), (0.11, "tip"), (0.09, "passed")])
def test_the_limits(share, outcome):
    assert outcomes(symmetry, of(share)) == [outcome]


def test_every_layer_is_told_with_its_own_advice():
    evidence = Evidence(chain(3), (record(),), alike=(("fc0", 1.0), ("fc1", 0.3)))
    found = symmetry.check(evidence)
    assert [(finding.layer, finding.outcome, finding.measured) for finding in found] == [
        ("fc0", "issue", 1.0), ("fc1", "tip", 0.3),
    ]  # fmt: skip
    assert found[0].why == (
        "100% of the units of layer 'fc0' have the same weights as another unit, before and after training."
    )
    assert "layers='fc1'" in found[1].advice
