from frostline.diagnosis import Evidence
from frostline.diagnosis.rules import schedule_end
from frostline.diagnosis.rules.records import RateFacts
from helpers_health import outcomes


def test_it_fires():
    (finding,) = schedule_end.check(Evidence(rates=RateFacts(0.1, 20, 300)))
    assert (finding.outcome, finding.family) == ("issue", "schedule")
    assert "after 20 of 300 steps" in finding.why
    assert "scheduler.step() once per epoch" in finding.advice
    assert outcomes(schedule_end, Evidence(rates=RateFacts(0.1, 120, 300))) == ["tip"]


def test_it_stays_quiet():
    assert outcomes(schedule_end, Evidence(rates=RateFacts(0.1, None, 300))) == ["passed"]
    assert outcomes(schedule_end, Evidence(rates=RateFacts(0.1, 295, 300))) == ["passed"]  # a cosine schedule
    assert outcomes(schedule_end, Evidence(rates=RateFacts(0.1, 2, 12))) == ["passed"]  # the run has just begun


def test_it_does_not_apply():
    assert outcomes(schedule_end, Evidence()) == ["not applicable"]


def test_a_warm_up_that_begins_anew_is_an_issue():
    (finding,) = schedule_end.check(Evidence(rates=RateFacts(0.01, None, 300, restarts=5)))
    assert finding.outcome == "issue"
    assert "fallen back 5 times in 300 steps" in finding.why
    assert "count all steps for a warm-up" in finding.advice
    assert outcomes(schedule_end, Evidence(rates=RateFacts(0.01, None, 300, restarts=2))) == ["passed"]
