from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import unreached_places
from frostline.diagnosis.rules.wiring_records import ReachFacts
from helpers_health import losses, outcomes

ENOUGH = losses(*[1.0] * 60)


def found(reach, skill=0.0):
    (finding,) = unreached_places.check(Evidence(reach=reach, skill=skill, losses=ENOUGH))
    return finding


def test_it_fires():
    finding = found(ReachFacts(12, 3, True))
    assert (finding.outcome, finding.family) == ("issue", "wiring")
    assert "of 12 places of the input that differ between samples 3 change the output" in finding.why
    assert "src_key_padding_mask" in finding.advice
    finding = found(ReachFacts(8, 8, False))
    assert finding.outcome == "issue"
    assert "self.position[:, : x.shape[1]]" in finding.advice


def test_it_stays_quiet():
    assert found(ReachFacts(12, 12, True)).outcome == "passed"
    assert found(ReachFacts(12, 12, None)).outcome == "passed"
    assert found(ReachFacts(12, 1, False), skill=0.6).outcome == "passed"  # the others may not be needed


def test_it_does_not_apply():
    assert outcomes(unreached_places, Evidence()) == ["not applicable"]
    assert outcomes(unreached_places, Evidence(reach=ReachFacts(12, 1, False))) == ["not judged"]
    few = Evidence(reach=ReachFacts(12, 1, False), skill=0.0, losses=losses(1.0, 1.0))
    assert outcomes(unreached_places, few) == ["not judged"]
