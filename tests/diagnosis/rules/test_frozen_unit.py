import pytest

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import frozen_unit
from frostline.diagnosis.rules.wiring_records import ModeFacts
from helpers_health import outcomes


def found(times, skill):
    (finding,) = frozen_unit.check(Evidence(modes=ModeFacts(frozen_unit=("0.1", times)), skill=skill))
    return finding


@pytest.mark.parametrize("times", [0.004, 250.0])
def test_it_fires(times):
    finding = found(times, 0.0)
    assert (finding.outcome, finding.layer, finding.family) == ("issue", "0.1", "input_scale")
    assert f"inputs times {1 / times:.3g} would be" in finding.advice
    assert found(times, 0.6).outcome == "tip"
    assert found(times, None).outcome == "tip"


def test_it_stays_quiet():
    assert found(2.5, 0.0).outcome == found(0.3, 0.0).outcome == "passed"


def test_it_does_not_apply():
    assert outcomes(frozen_unit, Evidence()) == outcomes(frozen_unit, Evidence(modes=ModeFacts())) == ["not applicable"]
