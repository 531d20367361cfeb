from dataclasses import replace

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import dropped_outputs
from frostline.diagnosis.rules.loss_records import LossFacts
from frostline.diagnosis.rules.wiring_records import ModeFacts
from helpers_health import outcomes

DROPPED = Evidence(modes=ModeFacts(dropped_outputs=0.25), loss=LossFacts("classes"))


def test_it_fires():
    (finding,) = dropped_outputs.check(DROPPED)
    assert (finding.outcome, finding.code) == ("issue", "FL412")
    assert "25% of the model's outputs" in finding.why


def test_it_stays_quiet():
    assert outcomes(dropped_outputs, replace(DROPPED, modes=ModeFacts(dropout=0.9))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(dropped_outputs, Evidence()) == ["not judged"]


def test_noise_on_embeddings_that_are_compared_with_each_other_may_be_meant():
    assert outcomes(dropped_outputs, replace(DROPPED, loss=LossFacts("unknown"))) == ["tip"]
