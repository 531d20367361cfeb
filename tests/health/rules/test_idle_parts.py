from frostline.health import Evidence
from frostline.health.rules import idle_parts
from helpers_health import outcomes


def test_it_fires():
    names = [(f"encoder.{at}", "not in the optimizer") for at in range(6)] + [("head", "without a gradient")]
    (finding,) = idle_parts.check(Evidence(idle=tuple(names)))
    assert finding.outcome == "tip"
    assert "encoder.0, encoder.1, encoder.2, encoder.3 and 2 more: not in the optimizer" in finding.why
    assert "head: without a gradient" in finding.why


def test_it_stays_quiet():
    assert outcomes(idle_parts, Evidence(idle=())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(idle_parts, Evidence()) == ["not judged"]
