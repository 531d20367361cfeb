import math

import pytest

from frostline.diagnosis import judge
from frostline.diagnosis.rules import nonfinite
from frostline.diagnosis.rules.loss_records import LossDomain, LossFacts
from frostline.diagnosis.rules.records import Evidence, StepRecord
from helpers_health import chain, losses, outcomes, record, records


@pytest.mark.parametrize(
    ("place", "layer", "words"),
    [
        ("input", "input", "samples 3, 5 of the batch"),
        ("target", "target", "the target of step 7"),
        ("fc1", "fc1", "is in layer 'fc1'"),
        ("gradient", None, "but a gradient is not"),
    ],
)
def test_it_fires(place, layer, words):
    odd = StepRecord(7, math.nan, math.nan, (), place, (3, 5) if place == "input" else ())
    (finding,) = nonfinite.check(Evidence(records=(record(), odd)))
    assert (finding.outcome, finding.layer) == ("issue", layer)
    assert words in finding.why
    assert "step 7" in finding.why


def test_a_loss_between_samples_and_one_that_overflows_are_seen():
    assert outcomes(nonfinite, Evidence(records=(record(),), losses=losses(1.0, math.inf))) == ["issue"]
    facts = LossFacts("classes", is_finite=False)
    assert outcomes(nonfinite, Evidence(records=(record(),), loss=facts)) == ["issue"]


def test_it_stays_quiet():
    assert outcomes(nonfinite, Evidence(records=(record(),), losses=losses(1.0, 0.5))) == ["passed"]


def test_it_does_not_apply():
    (finding,) = [finding for finding in judge(Evidence()).not_judged if finding.code == "FL502"]
    assert finding.outcome == "not judged"


def test_the_first_odd_step_and_place_are_told():
    odd = [StepRecord(step, math.nan, math.nan, (), place, rows) for step, place, rows in
           ((7, "fc1", ()), (8, "input", (1,)))]  # fmt: skip
    (finding,) = nonfinite.check(Evidence(records=(record(), *odd)))
    assert finding.why == "at step 7, the first value that is not finite is in layer 'fc1'."
    (finding,) = nonfinite.check(Evidence(records=(record(),), losses=losses(1.0, math.nan, -math.inf)))
    assert finding.why == "the loss of step 1 is not finite."
    (finding,) = nonfinite.check(Evidence(records=(record(),), loss=LossFacts("classes", is_finite=False)))
    assert (finding.why, finding.layer) == ("the loss is not finite for a confident output.", "the loss")
    (passed,) = nonfinite.check(Evidence(records=(record(), record()), loss=LossFacts("classes")))
    assert passed.why == "all values were finite in 2 sampled steps."


def test_an_infinite_slope_has_a_remedy_of_its_own():
    (finding,) = nonfinite.check(Evidence(records=(StepRecord(0, 1.0, math.nan, (), "gradient"),)))
    assert finding.advice.startswith("look for sqrt, norm or a power below 1 of zero")
    (finding,) = nonfinite.check(Evidence(records=(StepRecord(0, math.nan, 1.0, (), "fc1"),)))
    assert finding.advice.startswith("remove the samples, or fix the function")


def test_one_value_is_too_many():
    seen = [
        *(Evidence(records=(StepRecord(0, 1.0, math.nan, (), place),)) for place in ("input", "gradient", "fc1")),
        Evidence(records=(record(),), losses=losses(math.nan)),
        Evidence(records=(record(),), loss=LossFacts("classes", is_finite=False)),
    ]
    for evidence in seen:
        (finding,) = nonfinite.check(evidence)
        assert (finding.measured, finding.limit) == (1.0, 0.0)


def test_validation_figures_that_are_not_finite_are_told():
    odd = ((2, "val_loss", math.nan), (2, "val_auroc", math.nan), (4, "val_loss", math.inf))
    (finding,) = nonfinite.check(Evidence(chain(3), records(), validation=odd))
    assert (finding.outcome, finding.layer) == ("issue", None)
    assert finding.why == "the validation figure val_loss of epoch 2 is nan, and 1 more epochs have such figures."
    assert finding.advice.startswith("such an epoch is never chosen as the best.")


def test_a_loss_that_takes_positive_outputs_alone_is_named():
    facts = LossFacts("unknown", domain=LossDomain(needs_positive=True))
    (finding,) = nonfinite.check(Evidence(records=(record(),), losses=losses(math.nan, math.nan), loss=facts))
    assert (finding.outcome, finding.layer) == ("issue", "the loss")
    assert "log_input=True" in finding.advice
    assert outcomes(nonfinite, Evidence(records=(record(),), losses=losses(1.0, 0.9), loss=facts)) == ["passed"]


def test_a_logarithm_of_0_behind_a_sigmoid_is_named_once_the_loss_was_lost():
    facts = LossFacts("classes", domain=LossDomain(breaks_at_bounds=True))
    lost = losses(0.7, 0.3, math.nan)
    (finding,) = nonfinite.check(Evidence(records=(record(),), losses=lost, loss=facts))
    assert (finding.outcome, finding.layer) == ("issue", nonfinite.IN_THE_LOSS)
    assert "logarithm of 0" in finding.why
    assert "1e-8" in finding.advice
    assert outcomes(nonfinite, Evidence(records=(record(),), losses=losses(0.7, 0.3), loss=facts)) == ["passed"]
    odd = StepRecord(2, math.nan, math.nan, (), "target")
    (finding,) = nonfinite.check(Evidence(records=(record(), odd), losses=lost, loss=facts))
    assert finding.layer == "target"
