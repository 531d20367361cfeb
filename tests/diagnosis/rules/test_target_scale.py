import pytest

from frostline.diagnosis.rules import target_scale
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.records import Evidence, OptimizerFacts, TargetFacts
from helpers_health import outcomes


def judged(mean, deviation):
    return outcomes(target_scale, Evidence(targets=TargetFacts(mean, deviation)))


@pytest.mark.parametrize(
    ("mean", "deviation", "outcome"),
    [(152.0, 77.0, "issue"), (-200.0, 1.0, "issue"), (12.0, 9.0, "tip"), (0.0, 0.001, "issue"), (0.1, 0.02, "tip")],
)
def test_it_fires(mean, deviation, outcome):
    assert judged(mean, deviation) == [outcome]


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.5, 0.3), (3.0, 5.0)])
def test_it_stays_quiet(mean, deviation):
    assert judged(mean, deviation) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(target_scale, Evidence()) == ["not applicable"]


@pytest.mark.parametrize(
    ("mean", "deviation", "outcome"),
    [(30.1, 1.0, "issue"), (-29.9, 1.0, "tip"), (10.1, 1.0, "tip"), (9.9, 1.0, "passed"), (0.0, 30.1, "issue"),
     (0.0, 0.031, "passed"), (0.0, 0.029, "tip"), (0.0, 0.011, "tip"), (0.0, 0.009, "issue")],
)  # fmt: skip
def test_the_limits(mean, deviation, outcome):
    assert judged(mean, deviation) == [outcome]


def test_where_the_loss_is_not_one_of_errors_another_unit_is_another_task():
    targets = TargetFacts(100.0, 50.0)
    for follows, outcome in ((True, "issue"), (False, "not applicable"), (None, "not applicable")):
        evidence = Evidence(targets=targets, loss=LossFacts("values", follows_shift=follows))
        assert outcomes(target_scale, evidence) == [outcome]


def test_the_advice_holds_the_numbers_and_what_plain_sgd_needs():
    targets = TargetFacts(100.0, 50.0)
    (finding,) = target_scale.check(Evidence(targets=targets))
    assert finding.why == "the targets have a mean of 100 and a standard deviation of 50."
    assert "fl.remedies.rescale_outputs(model, loader, mean=100, deviation=50)" in finding.advice
    assert "with the learning rate divided by 2.5e+03." in finding.advice
    absolute = LossFacts("values", follows_shift=True, degree=1.0)
    assert "divided by 50." in target_scale.check(Evidence(targets=targets, loss=absolute))[0].advice
    adam = Evidence(targets=targets, optimizer=OptimizerFacts(is_scale_free=True))
    assert "learning rate" not in target_scale.check(adam)[0].advice
