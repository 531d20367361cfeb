import pytest

from frostline.diagnosis.rules import held_back
from frostline.diagnosis.rules.records import Evidence
from frostline.diagnosis.rules.wiring_records import CounterpartFacts
from helpers_health import outcomes


def found(part, by, skill=0.0, settings=""):
    facts = CounterpartFacts(part, 0.2, 0.9, 0.95, 0.15, by, settings)
    (finding,) = held_back.check(Evidence(counterparts=facts, skill=skill))
    return finding


@pytest.mark.parametrize(
    ("part", "by", "family", "why", "advice"),
    [
        ("loss", "cross_entropy", "loss_mismatch", "same network with cross_entropy", "against cross_entropy"),
        ("optimizer", "Adam", "learning_rate", "90% with Adam", "torch.optim.Adam("),
        ("network", "a plain network", "wiring", "90% for a plain network", "look into forward"),
    ],
    ids=["loss", "optimizer", "network"],
)
def test_it_fires(part, by, family, why, advice):
    finding = found(part, by)
    assert (finding.outcome, finding.family) == ("issue", family)
    assert why in finding.why
    assert "right to 20% as it is" in finding.why
    assert "baseline gets 15%" in finding.why
    assert advice in finding.advice
    assert found(part, by, skill=0.3).outcome == "tip"


def test_settings_are_named_where_they_are_what_was_swapped():
    assert "eps=10.0" in found("optimizer", "Adam", settings="eps=10.0 (usually 1e-08)").why
    assert "eps=" not in found("loss", "cross_entropy", settings="eps=10.0 (usually 1e-08)").why


def test_where_a_loss_is_all_there_is():
    facts = CounterpartFacts("network", 0.2, 0.9, 0.9, 0.0, "a plain network", is_of_loss=True)
    (finding,) = held_back.check(Evidence(counterparts=facts, skill=0.2))
    assert "of the loss of the constant-prediction baseline, held-out samples save 20% as it is, 90%" in finding.why


def test_it_stays_quiet():
    assert found("network", "a plain network", skill=0.5).outcome == "tip"  # where something is learnt


def test_it_does_not_apply():
    assert outcomes(held_back, Evidence()) == ["not applicable"]


def test_a_step_that_goes_up_the_slope_is_an_issue():
    (finding,) = held_back.check(Evidence(climbs=0.9))
    assert (finding.outcome, finding.family) == ("issue", "learning_rate")
    assert "maximize=True" in finding.advice
    assert outcomes(held_back, Evidence(climbs=-0.9)) == ["not applicable"]
