import math

import pytest

from frostline.diagnosis.rules import loss_mismatch
from frostline.diagnosis.rules.loss_records import LossAim, LossDomain, LossFacts, LossTerms, OutputBound
from frostline.diagnosis.rules.records import Evidence
from helpers_health import outcomes


def judged(kind="classes", **facts):
    return outcomes(loss_mismatch, Evidence(loss=LossFacts(kind, **facts)))


@pytest.mark.parametrize(
    "facts",
    [{"prefers_right": False}, {"is_bounded": False}, {"slope_when_wrong": 1e-6}, {"stuck_share": 0.6},
     {"out_of_reach": 0.5}],
    ids=lambda facts: next(iter(facts)),
)  # fmt: skip
def test_it_fires(facts):
    assert judged(**facts) == ["issue"]


def test_it_stays_quiet():
    assert judged() == ["passed"]
    assert judged("values", slope_when_wrong=2.0, out_of_reach=0.05) == ["passed"]


def test_it_does_not_apply():
    assert judged("unknown", prefers_right=False) == ["not judged"]
    assert outcomes(loss_mismatch, Evidence()) == ["not judged"]


def found(kind="classes", **facts):
    (finding,) = loss_mismatch.check(Evidence(loss=LossFacts(kind, **facts)))
    return finding


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [({"slope_when_wrong": 0.049}, "issue"), ({"slope_when_wrong": 0.051}, "passed"), ({"stuck_share": 0.31}, "issue"),
     ({"stuck_share": 0.29}, "passed"), ({"out_of_reach": 0.21}, "issue"), ({"out_of_reach": 0.19}, "passed")],
)  # fmt: skip
def test_the_limits(facts, outcome):
    assert judged(**facts) == [outcome]


@pytest.mark.parametrize(
    ("facts", "why", "advice"),
    [
        ({"pairs_all": True}, "the shapes of output and target differ", "give both the same shape"),
        ({"prefers_right": False}, "correct outputs do not have a lower loss", "check the sign of the loss"),
        ({"is_bounded": False}, "falls without bound", "binary_cross_entropy_with_logits takes labels of 0 and 1"),
        ({"slope_when_wrong": 0.001}, "the gradient of the loss is 1e-03 of that at the start",
         "if a softmax or sigmoid comes before"),
        ({"stuck_share": 0.6, "reach": (0.0, 1.0)}, "gives values from 0 to 1; 60% of this loss cannot be reduced",
         "remove the model's last activation"),
        ({"stuck_share": 0.6, "is_floorless": True, "reach": (0.0, 1.0)}, "cannot be reduced", "end the model in log"),
        ({"out_of_reach": 0.5, "reach": (0.0, math.inf)}, "50% of the targets are outside of the range of the "
         "model's last activation (no value below 0).", "end the model in a layer without an activation"),
        ({"out_of_reach": 0.5, "has_several": True}, "50% of the targets", "for labels of which several are true"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_remedy(facts, why, advice):
    for kind in ("classes", "values"):
        finding = found(kind, **facts)
        assert why in finding.why
        assert finding.advice.startswith(advice)


def test_numbers_are_told_with_their_limits():
    assert (found(stuck_share=0.6).measured, found(stuck_share=0.6).limit) == (0.6, 0.3)
    assert (found(out_of_reach=0.6).measured, found(out_of_reach=0.6).limit) == (0.6, 0.2)
    assert (found(slope_when_wrong=0.01).measured, found(slope_when_wrong=0.01).limit) == (0.01, 0.05)


def test_a_relu_at_the_end_of_a_classifier_is_a_tip():
    assert judged(reach=(0.0, math.inf)) == ["tip"]
    assert found(reach=(0.0, math.inf)).advice.startswith("remove the last ReLU")
    assert judged("values", reach=(0.0, math.inf)) == ["passed"]
    assert judged(reach=(0.0, 1.0)) == ["passed"]
    assert judged(reach=(-1.0, math.inf)) == ["passed"]


def test_a_softmax_over_one_value_is_an_issue():
    (finding,) = loss_mismatch.check(Evidence(loss=LossFacts("values", is_fixed=True)))
    assert finding.outcome == "issue"
    assert "softmax over a single value" in finding.why
    assert "sigmoid" in finding.advice


@pytest.mark.parametrize(
    ("domain", "why", "advice"),
    [
        (LossDomain(largest_target=255.0), "these go to 255", "target = target / 255"),
        (LossDomain(is_soft=True, is_improper=True), "surer than they are", "F.log_softmax(output, dim=1)"),
        (LossDomain(falls_with_all=True), "as all outputs grow together", "output.log_softmax(dim)"),
        (LossDomain(uncounted=((3, 0.4),)), "class 3, 40% of the first batch", "give class 3 a weight above 0"),
    ],
)
def test_what_a_loss_does_not_take_comes_first_and_needs_no_known_kind(domain, why, advice):
    (finding,) = loss_mismatch.check(Evidence(loss=LossFacts("unknown", domain=domain)))
    assert finding.outcome == "issue"
    assert why in finding.why
    assert advice in finding.advice


def test_soft_targets_are_no_labels_and_a_rare_class_may_be_left_out():
    assert judged("values", wants_probabilities=True) == ["issue"]
    assert judged("values", wants_probabilities=True, domain=LossDomain(is_soft=True)) == ["passed"]
    assert judged(domain=LossDomain(uncounted=((3, 0.06),))) == ["passed"]


def of_terms(kind="classes", **terms):
    (finding,) = loss_mismatch.check(Evidence(loss=LossFacts(kind, terms=LossTerms(**terms))))
    return finding


def test_terms_without_an_output_and_columns_that_are_not_read():
    finding = of_terms(columns=(4, 0, 5))
    assert finding.outcome == "issue"
    assert "changes with 4 of 5 columns of the target" in finding.why
    finding = of_terms("unknown", columns=(0, 4, 5))
    assert finding.outcome == "tip"
    assert "4 of 5 columns of the target are exchanged" in finding.why
    assert of_terms(columns=(0, 1, 3)).outcome == "passed"


def test_weights_the_other_way_round_and_cosines_without_a_temperature():
    finding = of_terms(weights=((1, 0.05, 0.05), (0, 0.95, 1.0)))
    assert finding.outcome == "issue"
    assert "rows of class 1, 5.0% of all, count 0.05 times as much as those of class 0, 95.0% of all" in finding.why
    assert of_terms(weights=((1, 0.05, 1.0), (0, 0.95, 0.05))).outcome == "passed"
    assert of_terms(weights=((1, 0.05, 0.33), (0, 0.95, 1.0))).outcome == "passed"  # RetinaNet
    finding = of_terms("unknown", logit_range=1.1)
    assert finding.outcome == "issue"
    assert "divide the cosines by a temperature" in finding.advice


@pytest.mark.parametrize(
    ("aim", "why", "advice"),
    [
        (LossAim("classes", right=0.2, classes=10), "end with 20% right answers (10 classes)", "by hand"),
        (
            LossAim("values", lost=(1,), columns=3, instead="the target of column 0"),
            "in columns 1 of 3. They move to the",
            "rows and columns",
        ),
        (LossAim("values", lost=(0,), columns=1), "do not come nearer.", "a mean that is taken"),
        (LossAim("values", flat=0.5), "50% of the outputs that are made wrong here get no slope", "clamp(0, 1)"),
        (LossAim(counted=(0.1, -1.0)), "10% of the targets count in the loss, all of them -1", "mask"),
        (LossAim(unbounded="1"), "without bound as output '1' moves", "sign of the terms with output '1'"),
        (LossAim("embeddings", spread=1.4), "end 1.4 times as far from those of their own class", "margin"),
        (LossAim(reward=0.9), "rises with its reward (correlation 0.9)", "-(log_prob * advantage)"),
    ],
    ids=["classes", "columns", "values", "flat", "mask", "unbounded", "pairs", "reward"],
)
def test_a_loss_that_leads_elsewhere(aim, why, advice):
    finding = found("unknown", aim=aim)
    assert (finding.outcome, finding.family) == ("issue", "loss_mismatch")
    assert why in finding.why
    assert advice in finding.advice


@pytest.mark.parametrize(
    "aim",
    [
        LossAim("classes", right=0.9, classes=10),
        LossAim("values", columns=3),
        LossAim("embeddings", spread=0.4),
        LossAim(reward=-0.9),
    ],
    ids=["classes", "values", "pairs", "reward"],
)
def test_a_loss_that_leads_to_its_targets(aim):
    assert judged(aim=aim) == ["passed"]


@pytest.mark.parametrize(("right", "outcome"), [(None, "issue"), (0.6, "issue"), (0.9, "tip")])
def test_what_a_training_refutes_is_a_tip(right, outcome):
    facts = LossFacts("unknown", aim=LossAim("classes", right=0.2, classes=10))
    (finding,) = loss_mismatch.check(Evidence(loss=facts, right=right))
    assert finding.outcome == outcome
    assert finding.why.endswith("right all the same.") is (outcome == "tip")


def test_a_column_that_drowns_the_others_is_a_tip():
    finding = found("unknown", aim=LossAim(loudest=(2, 4, 900.0)))
    assert finding.outcome == "tip"
    assert "column 2 of 4 of the output has 900 times the slope" in finding.why


def test_an_output_on_a_bound_is_a_tip():
    evidence = Evidence(loss=LossFacts("unknown"), bound=OutputBound("column 1", 0.0, 0.6))
    (finding,) = loss_mismatch.check(evidence)
    assert finding.outcome == "tip"
    assert "60% of output 'column 1' are exactly 0" in finding.why
    assert "softplus" in finding.advice


def test_shapes_that_meet_all_rows():
    finding = found("unknown", joined=((8, 1), (8,)))
    assert finding.outcome == "issue"
    assert "combines shapes (8, 1) and (8,): every row meets every other row" in finding.why
    assert "squeeze(1)" in finding.advice
