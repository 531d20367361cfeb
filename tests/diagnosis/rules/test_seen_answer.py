from dataclasses import replace

from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import seen_answer
from frostline.diagnosis.rules.loss_records import LossAim, LossFacts
from frostline.diagnosis.rules.row_records import RowFacts
from frostline.diagnosis.rules.wiring_records import PlaceFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = seen_answer.check(Evidence(places=PlaceFacts(sees_answer=True)))
    assert (finding.outcome, finding.family) == ("issue", "targets")
    assert "causal mask" in finding.advice


def test_it_stays_quiet():
    assert outcomes(seen_answer, Evidence(places=PlaceFacts())) == ["passed"]


def test_it_does_not_apply():
    assert outcomes(seen_answer, Evidence()) == ["not applicable"]


def test_a_target_that_is_the_word_itself_is_an_issue():
    (finding,) = seen_answer.check(Evidence(places=PlaceFacts(copies_input=True)))
    assert finding.outcome == "issue"
    assert "words[:, 1:]" in finding.advice


def test_a_feature_that_is_the_target_is_an_issue_where_it_is_used():
    rows = RowFacts(answer_at=11, factor=1.0, num_features=12)
    loss = LossFacts("values", aim=LossAim("values", columns=1))
    (finding,) = seen_answer.check(Evidence(rows=rows, skill=0.97, loss=loss))
    assert finding.outcome == "issue"
    assert "the target of every row is feature 11 of 12 of its input" in finding.why
    assert "leave feature 11 out" in finding.advice
    assert outcomes(seen_answer, Evidence(rows=rows, skill=0.97)) == ["tip"]  # a reward that a loss takes in otherwise
    (finding,) = seen_answer.check(Evidence(rows=replace(rows, factor=-2.0), skill=0.1, loss=loss))
    assert finding.outcome == "tip"
    assert "is -2 times feature 11" in finding.why
    assert outcomes(seen_answer, Evidence(rows=RowFacts(), places=PlaceFacts())) == ["passed"]


def test_targets_that_are_moved_twice_are_a_tip():
    (finding,) = seen_answer.check(Evidence(places=PlaceFacts(ahead=2)))
    assert (finding.outcome, finding.family) == ("tip", "targets")
    assert "the input 2 later" in finding.why
    assert "and not twice" in finding.advice
    (finding,) = seen_answer.check(Evidence(places=PlaceFacts(ahead=-1)))
    assert "the input 1 before" in finding.why
