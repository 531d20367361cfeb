from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import low_clip
from frostline.diagnosis.rules.records import OptimizerFacts
from helpers_health import outcomes

CLIPPED = (0.01,) * 38 + (0.008, 0.002)


def test_it_fires():
    (finding,) = low_clip.check(Evidence(gradient_norms=CLIPPED, plain_gradient=4.0, skill=0.5))
    assert (finding.outcome, finding.family) == ("issue", "clip")
    assert "95% of the steps" in finding.why
    assert outcomes(low_clip, Evidence(gradient_norms=CLIPPED, plain_gradient=0.3, skill=0.5)) == ["tip"]
    assert outcomes(low_clip, Evidence(gradient_norms=CLIPPED, plain_gradient=0.3, skill=0.0)) == ["issue"]


def test_it_stays_quiet():
    free = tuple(1 + 0.1 * (step % 7) for step in range(40))
    assert outcomes(low_clip, Evidence(gradient_norms=free, plain_gradient=40.0)) == ["passed"]
    assert outcomes(low_clip, Evidence(gradient_norms=(1.0,) * 40, plain_gradient=4.0)) == ["passed"]  # a usual clip
    assert outcomes(low_clip, Evidence(gradient_norms=(0.0,) * 40, plain_gradient=4.0)) == ["passed"]  # FL406 says more


def test_it_does_not_apply():
    scale_free = OptimizerFacts(1e-3, is_scale_free=True)
    assert outcomes(low_clip, Evidence(gradient_norms=CLIPPED, plain_gradient=4.0, optimizer=scale_free)) == [
        "not applicable"
    ]
    assert outcomes(low_clip, Evidence(gradient_norms=CLIPPED)) == ["not judged"]
