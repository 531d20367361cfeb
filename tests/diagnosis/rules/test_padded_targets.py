from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import padded_targets
from frostline.diagnosis.rules.wiring_records import PlaceFacts, ReachFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = padded_targets.check(Evidence(places=PlaceFacts(0.9, 0)))
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert finding.why.startswith("90% of the places are padding (label 0")
    assert outcomes(padded_targets, Evidence(places=PlaceFacts(0.3, 0))) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(padded_targets, Evidence(places=PlaceFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(padded_targets, Evidence()) == ["not applicable"]


def test_padding_that_counts_in_the_outputs():
    (finding,) = padded_targets.check(Evidence(reach=ReachFacts(padded=0.4), skill=0.3))
    assert (finding.outcome, finding.family) == ("tip", "wiring")
    assert "changes the outputs by 40% of their spread" in finding.why
    assert "pack_padded_sequence" in finding.advice
    assert outcomes(padded_targets, Evidence(reach=ReachFacts(padded=0.4), skill=0.9)) == ["not applicable"]
    assert outcomes(padded_targets, Evidence(reach=ReachFacts(padded=0.05), skill=0.3)) == ["not applicable"]


def test_places_that_cannot_be_predicted_and_words_of_short_rows_are_tips():
    (finding,) = padded_targets.check(Evidence(places=PlaceFacts(unlearnt=(22, 26, 0.9))))
    assert finding.outcome == "tip"
    assert "at 22 of the 26 places that count" in finding.why
    assert "loss_mask" in finding.advice
    assert outcomes(padded_targets, Evidence(places=PlaceFacts(unlearnt=(5, 26, 0.2)))) == ["passed"]
    (finding,) = padded_targets.check(Evidence(places=PlaceFacts(by_row=12.0)))
    assert finding.outcome == "tip"
    assert "a word of the shortest one 12 times as much" in finding.why
    assert outcomes(padded_targets, Evidence(places=PlaceFacts(by_row=2.0))) == ["passed"]
