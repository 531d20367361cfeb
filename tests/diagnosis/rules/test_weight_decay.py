from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import weight_decay
from frostline.diagnosis.rules.records import Layer, LayerSample, OptimizerFacts, StepRecord
from helpers_health import outcomes

LAYERS = (Layer("fc", "linear", "", 0, is_frozen=False, is_output=True),)


def shrunk(last, *, decay=0.5, skill=0.0):
    records = tuple(
        StepRecord(step, 1.0, 1.0, (LayerSample("fc", gradient_norm=1.0, weight_norm=norm),))
        for step, norm in enumerate((1.0, last))
    )
    return Evidence(layers=LAYERS, records=records, optimizer=OptimizerFacts(0.1, weight_decay=decay), skill=skill)


def test_it_fires():
    (finding,) = weight_decay.check(shrunk(0.1))
    assert (finding.outcome, finding.family) == ("issue", "weight_decay")
    assert "end at 0.1 times" in finding.why
    assert outcomes(weight_decay, shrunk(0.1, skill=0.8)) == ["tip"]
    assert outcomes(weight_decay, shrunk(0.6)) == ["tip"]  # nothing is learnt, and the decay is large


def test_it_stays_quiet():
    assert outcomes(weight_decay, shrunk(0.6, decay=0.01)) == ["passed"]
    assert outcomes(weight_decay, shrunk(0.6, skill=0.8)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(weight_decay, shrunk(0.1, decay=0.0)) == ["not applicable"]
    assert outcomes(weight_decay, Evidence(optimizer=OptimizerFacts(weight_decay=0.1))) == ["not judged"]
