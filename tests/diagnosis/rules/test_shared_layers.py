from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import shared_layers
from helpers_health import outcomes


def test_it_fires():
    (finding,) = shared_layers.check(
        Evidence(shared=((("heads.0", "heads.1"), "layer"), (("a.weight", "b.weight"), "parameter")))
    )
    assert (finding.outcome, finding.family) == ("tip", "shared")
    assert finding.why == "heads.0, heads.1 are the same layer; a.weight, b.weight are the same parameter."


def test_it_stays_quiet():
    assert outcomes(shared_layers, Evidence(shared=())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(shared_layers, Evidence()) == ["not judged"]
