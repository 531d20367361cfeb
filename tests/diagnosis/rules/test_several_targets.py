from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import several_targets
from frostline.diagnosis.rules.row_records import RowFacts
from helpers_health import outcomes


def test_it_fires():
    rows = RowFacts(num_features=2, torn=0.4, torn_targets=(0.0, 1.0))
    (finding,) = several_targets.check(Evidence(rows=rows))
    assert (finding.outcome, finding.family) == ("tip", "targets")
    assert "40% of the rows have an input that comes with another target as well" in finding.why
    assert "one of them both with 0 and with 1" in finding.why


def test_it_stays_quiet():
    rows = RowFacts(num_features=2, torn=0.02, torn_targets=(0.0, 1.0))
    assert outcomes(several_targets, Evidence(rows=rows)) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(several_targets, Evidence()) == ["not judged"]
    assert outcomes(several_targets, Evidence(rows=RowFacts())) == ["not judged"]
