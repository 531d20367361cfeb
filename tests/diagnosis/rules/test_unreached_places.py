from dataclasses import replace

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import unreached_places
from frostline.diagnosis.rules.records import Layer
from frostline.diagnosis.rules.wiring_records import PlaceFacts, ReachFacts, SignalFacts
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


def test_the_layer_where_the_targets_are_lost_is_named():
    signal = SignalFacts(0.9, "the output of layer 'up' (Linear)", 0.85, "the input of layer 'body.0' (Linear)", 0.01)
    evidence = Evidence(signal=signal, skill=0.02, losses=ENOUGH)
    (finding,) = unreached_places.check(evidence)
    assert (finding.outcome, finding.layer) == ("issue", "body.0")
    assert "reads 85% of the targets, one of the input of layer 'body.0' (Linear) 1%" in finding.why
    assert "a sum is meant" in finding.advice
    assert outcomes(unreached_places, replace(evidence, skill=0.6)) == ["not applicable"]
    assert outcomes(unreached_places, replace(evidence, signal=SignalFacts(0.9))) == ["not applicable"]


def test_values_that_are_not_used():
    facts = ReachFacts(unused=(("values 4 to 63 (axis 1) of the input", 60, 64),))
    finding = found(facts, skill=0.2)
    assert (finding.outcome, finding.family) == ("issue", "wiring")
    assert "60 of 64 that differ are not used" in finding.why
    assert "a slice" in finding.advice
    assert found(facts, skill=0.9).outcome == "tip"
    few = ReachFacts(12, 12, True, (("values 0 (axis 1) of the input", 1, 64),))
    assert found(few, skill=0.0).outcome == "passed"


def test_a_constant_that_drowns_what_differs_between_samples():
    evidence = Evidence(drowned=("body", 1e-5, 300.0), losses=ENOUGH, skill=0.1)
    (finding,) = unreached_places.check(evidence)
    assert (finding.outcome, finding.layer) == ("issue", "body")
    assert "the same for all drowns them" in finding.why
    assert outcomes(unreached_places, replace(evidence, skill=0.9)) == ["tip"]


def test_outputs_in_another_order_than_inputs():
    evidence = Evidence(places=PlaceFacts(blind=(6, 12)), losses=ENOUGH, skill=0.1)
    (finding,) = unreached_places.check(evidence)
    assert (finding.outcome, finding.family) == ("issue", "order")
    assert "torch.cat([outputs, new], 1)" in finding.advice
    for blind, skill in (((12, 12), 0.1), ((1, 12), 0.1), ((6, 12), 0.9)):
        assert outcomes(unreached_places, replace(evidence, places=PlaceFacts(blind=blind), skill=skill)) == [
            "not applicable"
        ]


def test_a_state_that_is_not_carried_on():
    layers = (Layer("cell", "recurrent", "", 0, False, False, "GRUCell"), Layer("out", "linear", "", 1, False, True))
    evidence = Evidence(places=PlaceFacts(alone=(12, 12)), losses=ENOUGH, skill=0.1, layers=layers)
    (finding,) = unreached_places.check(evidence)
    assert (finding.outcome, finding.layer) == ("issue", "cell")
    assert "hidden = self.cell(word, hidden)" in finding.advice
    assert outcomes(unreached_places, replace(evidence, layers=layers[1:])) == ["not applicable"]  # by word, on purpose
    assert outcomes(unreached_places, replace(evidence, places=PlaceFacts(alone=(3, 12)))) == ["not applicable"]
