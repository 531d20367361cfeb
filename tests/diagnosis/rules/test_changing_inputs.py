from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import changing_inputs
from frostline.diagnosis.rules.row_records import RowFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = changing_inputs.check(Evidence(rows=RowFacts(first_size=0.5, last_size=40.0)))
    assert (finding.outcome, finding.family, finding.measured) == ("issue", "input_scale", 80.0)
    assert "0.5 in the first batches, and of 40 in the last" in finding.why
    assert "stored[index].clone()" in finding.advice
    assert outcomes(changing_inputs, Evidence(rows=RowFacts(first_size=5.0, last_size=0.5))) == ["issue"]


def test_it_stays_quiet():
    assert outcomes(changing_inputs, Evidence(rows=RowFacts(first_size=0.5, last_size=0.9))) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(changing_inputs, Evidence()) == ["not applicable"]
    assert outcomes(changing_inputs, Evidence(rows=RowFacts())) == ["not applicable"]
