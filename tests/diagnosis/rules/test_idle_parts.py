import re
from dataclasses import replace

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import idle_parts
from frostline.diagnosis.rules.records import Layer
from frostline.diagnosis.rules.wiring_records import AxesFacts, OutsideFacts
from helpers_health import losses, outcomes


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


def test_one_part_is_named_and_the_steps_are_told():
    (finding,) = idle_parts.check(Evidence(idle=(("head", "without a gradient"),), losses=losses(1.0, 0.9)))
    assert (finding.layer, finding.measured) == ("head", 1.0)
    assert finding.why == "these trainable parameters have not moved in 2 steps: head: without a gradient."
    (finding,) = idle_parts.check(Evidence(idle=(("a", "x"), ("b", "y"))))
    assert (finding.layer, finding.measured) == (None, 2.0)
    assert finding.why == "these trainable parameters have not moved: a: x; b: y."


def test_four_names_are_shown_without_more():
    (finding,) = idle_parts.check(Evidence(idle=tuple((name, "x") for name in "abcd")))
    assert finding.why == "these trainable parameters have not moved: a, b, c, d: x."


@pytest.mark.parametrize(("strangers", "outcome"), [(True, "issue"), (False, "tip")])
def test_what_a_monitors_optimizer_does_not_hold(strangers, outcome):
    (finding,) = idle_parts.check(Evidence(unheld=("fc", "head"), holds_strangers=strangers))
    assert (finding.outcome, finding.measured, finding.layer) == (outcome, 2.0, None)
    assert finding.why.startswith("these trainable parameters have not moved: fc, head: not in the optimizer.")
    assert ("it is older than the model" in finding.why) is strangers
    assert outcomes(idle_parts, Evidence(unheld=(), holds_strangers=strangers)) == ["passed"]
    assert outcomes(idle_parts, Evidence(idle=(("a", "x"),), holds_strangers=strangers)) == ["tip"]
    (passed,) = idle_parts.check(Evidence(unheld=()))
    assert passed.why == "the optimizer holds all trainable parameters."
    assert idle_parts.check(Evidence(idle=()))[0].why == "all trainable parameters that get a gradient have moved."


def test_the_call_that_is_advised_names_the_parts_and_freezes_them():
    model = nn.ModuleDict({"stem": nn.Linear(2, 2), "fc": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    for evidence in (
        Evidence(idle=(("stem", "x"), ("fc", "y"))),
        Evidence(unheld=("stem", "fc"), holds_strangers=True),
    ):
        (finding,) = idle_parts.check(evidence)
        call = re.search(r"fl\.freeze\(.*?\)", finding.advice)[0]
        eval(call, {"fl": fl, "model": model})
        assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
        fl.thaw(model)


def test_weights_outside_of_the_model_are_an_issue():
    shapes = ((5, 5), (5,))
    (lasting,) = idle_parts.check(Evidence(idle=(), outside=OutsideFacts(lasting=shapes)))
    assert (lasting.outcome, lasting.measured, lasting.family) == ("issue", 2.0, "wiring")
    assert "2 weights (shapes (5, 5), (5,))" in lasting.why
    assert "nn.ModuleList" in lasting.advice
    (anew,) = idle_parts.check(Evidence(idle=(), outside=OutsideFacts(made_anew=shapes[:1])))
    assert anew.why.startswith("each forward pass makes 1 weight (shape (5, 5)) with new random values")
    assert "__init__" in anew.advice
    both = idle_parts.check(Evidence(idle=(("a", "x"),), outside=OutsideFacts(lasting=shapes)))
    assert [finding.outcome for finding in both] == ["issue", "tip"]
    assert outcomes(idle_parts, Evidence(idle=(), outside=OutsideFacts())) == ["passed"]


def chain(**evidence):
    layers = tuple(
        Layer(name, "linear", "", at, is_frozen=False, is_output=name == "c") for at, name in enumerate("abc")
    )
    return Evidence(layers=layers, losses=losses(*[1.0] * 60), **evidence)


def test_a_layer_left_out_between_layers_that_train_is_an_issue():
    (finding,) = idle_parts.check(chain(idle=(("b", "not in the optimizer"),)))
    assert finding.outcome == "issue"
    assert outcomes(idle_parts, chain(idle=(("a", "not in the optimizer"),))) == ["tip"]  # the lowest may be meant
    assert outcomes(idle_parts, chain(idle=(("a", "not in the optimizer"), ("b", "not in the optimizer")))) == ["tip"]


def test_a_part_whose_values_count_and_that_gets_no_gradient_is_an_issue():
    idle = (("a", "without a gradient"),)
    (finding,) = idle_parts.check(chain(idle=idle, cut_off=("a",)))
    assert finding.outcome == "issue"
    assert finding.advice.startswith("the loss depends on the values of these parts")
    assert outcomes(idle_parts, chain(idle=idle)) == ["tip"]


def test_gradients_of_zero_count_beside_a_softmax_over_one_value():
    idle = (("b", "with a gradient of 0"),)
    assert outcomes(idle_parts, chain(idle=idle)) == ["passed"]
    (finding,) = idle_parts.check(chain(idle=idle, axes=AxesFacts(of_one=((32, 12, 1),))))
    assert finding.outcome == "issue"
    assert "(32, 12, 1)" in finding.why


def test_a_layer_of_zeros_that_does_not_train_is_an_issue_of_its_own():
    (finding,) = idle_parts.check(Evidence(walls=("head",), idle=(("head", "not in the optimizer"),)))
    assert (finding.outcome, finding.layer) == ("issue", "head")
    model = nn.ModuleDict({"head": nn.Linear(4, 3)})
    nn.init.zeros_(model["head"].weight)
    model.requires_grad_(False)
    train, draw = re.findall(r"model[.]get_submodule.*?True[)]|fl[.]remedies.*?[)]", finding.advice)
    eval(train, {"model": model})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    eval(draw, {"model": model, "fl": fl, "optimizer": optimizer})
    assert model["head"].weight.requires_grad
    assert bool(model["head"].weight.any())


def test_a_part_whose_output_is_dropped_is_an_issue():
    (finding,) = idle_parts.check(Evidence(idle=(("block.first", "without a gradient"),), dropped=("block.first",)))
    assert finding.outcome == "issue"
    assert "The output of block.first is not used" in finding.why
    assert "self.second(hidden)" in finding.advice


def test_a_part_that_reaches_the_loss_past_all_that_trains_is_an_issue():
    (finding,) = idle_parts.check(Evidence(idle=(("coarse.2", "not in the optimizer"),), past=("coarse.2",)))
    assert finding.outcome == "issue"
    assert "nothing that the optimizer holds stands between these and the loss" in finding.why
    assert "optimizer" in finding.advice


def test_weights_of_the_loss_alone_are_a_tip_for_a_critic_is_meant():
    (finding, *_) = idle_parts.check(Evidence(outside=OutsideFacts(in_loss=((64, 32), (64,))), idle=()))
    assert finding.outcome == "tip"
    assert "the loss computes with 2 weights (shapes (64, 32), (64,))" in finding.why
    assert "*loss.parameters()" in finding.advice


def test_an_output_that_the_loss_leaves_out_is_a_tip_with_its_own_advice():
    (finding,) = idle_parts.check(Evidence(idle=(("first", "without a gradient"),), unheard=("first",)))
    assert (finding.outcome, finding.layer) == ("tip", "first")
    assert "first is one of the model's, and makes no difference to the loss" in finding.why
    assert "loss = loss + " in finding.advice


def test_a_layer_that_is_not_used_beside_its_like():
    evidence = Evidence(idle=(("net.second", "without a gradient"),), twins=(("net.second", "net.first"),))
    (finding,) = idle_parts.check(evidence)
    assert (finding.outcome, finding.layer) == ("issue", "net.second")
    assert "'net.first' beside it is of the same kind" in finding.why
    assert "self.first in two places" in finding.advice


def test_frozen_layers_that_are_as_they_were_drawn():
    layers = tuple(Layer(f"fc{at}", "linear", "", at, False, at == 3) for at in range(4))
    evidence = Evidence(layers=layers, frozen_at_random=("fc0", "fc1"), skill=0.1, idle=())
    (finding,) = idle_parts.check(evidence)
    assert finding.outcome == "issue"
    assert "They are 2 of 4 layers" in finding.why
    assert "load_state_dict" in finding.advice
    for others in ({"skill": 0.9}, {"frozen_at_random": ("fc0",)}):
        assert outcomes(idle_parts, replace(evidence, **others)) == ["passed"]
