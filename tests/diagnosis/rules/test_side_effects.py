import pytest

from frostline.diagnosis.rules import side_effects
from frostline.diagnosis.rules.records import Evidence
from frostline.diagnosis.rules.wiring_records import SideEffects
from helpers_health import outcomes


@pytest.mark.parametrize(
    ("facts", "family", "why", "advice"),
    [
        ({"inputs": ("0",)}, "side_effects", "a forward pass changes its inputs in place", "x = x - mean"),
        ({"inputs_in_loss": ("0",)}, "side_effects", "the loss changes its inputs in place", "x.clone()"),
        ({"targets": ("0",)}, "targets", "the loss changes its targets in place", "target.clone()"),
        ({"weights": ("h.weight",)}, "wiring", "writes to the weights h.weight", "once, in __init__"),
        ({"modes": ("", "h")}, "mode", "changes the mode of the model, h", "take train() and eval() out"),
        ({"reseeds": True}, "mode", "sets the seed of all random numbers", "take manual_seed() out"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_it_fires(facts, family, why, advice):
    (finding,) = side_effects.check(Evidence(effects=SideEffects(**facts)))
    assert (finding.outcome, finding.family) == ("issue", family)
    assert why in finding.why
    assert advice in finding.advice


def test_a_change_without_a_consequence_is_a_tip():
    (finding,) = side_effects.check(Evidence(effects=SideEffects(settled=("0",))))
    assert finding.outcome == "tip"
    assert "the same rows give the same" in finding.why


def test_it_stays_quiet():
    assert outcomes(side_effects, Evidence(effects=SideEffects())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(side_effects, Evidence()) == ["not judged"]
