from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import exchanged_axes
from frostline.diagnosis.rules.wiring_records import AxesFacts
from helpers_health import outcomes

EXCHANGED = AxesFacts(exchanged=(((32, 50, 6), (32, 6, 50)),))


def test_it_fires():
    (finding,) = exchanged_axes.check(Evidence(axes=EXCHANGED, skill=0.0))
    assert (finding.outcome, finding.family) == ("issue", "reshape")
    assert "(32, 50, 6) into (32, 6, 50)" in finding.why
    assert outcomes(exchanged_axes, Evidence(axes=EXCHANGED, skill=0.7)) == ["tip"]  # sizes may agree by chance


def test_it_stays_quiet():
    assert outcomes(exchanged_axes, Evidence(axes=AxesFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(exchanged_axes, Evidence()) == ["not judged"]
