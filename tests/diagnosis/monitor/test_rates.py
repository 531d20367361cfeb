import torch
from torch import nn

from frostline.diagnosis.monitor.rates import Rates
from frostline.diagnosis.rules.records import RateFacts


def looked_at(rates):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), 1.0)
    watched = Rates(optimizer)
    for step, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        watched.look(step)
    return watched.facts(len(rates))


def test_a_rate_that_sinks_to_nothing():
    assert looked_at([0.1, 0.1, 1e-5, 1e-6]) == RateFacts(0.1, 2, 4)


def test_warm_ups_and_restarts_are_no_end():
    assert looked_at([1e-6, 1e-3, 0.1, 0.1]) == RateFacts(0.1, None, 4)
    assert looked_at([0.1, 1e-6, 0.1, 0.05]) == RateFacts(0.1, None, 4)


def test_without_an_optimizer_nothing_is_known():
    watched = Rates(None)
    watched.look(0)
    assert watched.facts(5) is None


def test_a_warm_up_that_begins_anew_is_told_from_other_schedules():
    warm_up = [0.02, 0.06, 0.1]
    assert looked_at(warm_up * 4).restarts == 3
    steps = [*warm_up, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 1e-4, 1e-4]
    cosine_restarts = [0.1, 0.07, 0.03, 0.01] * 4
    triangle = [0.02, 0.06, 0.1, 0.06] * 4
    assert [looked_at(rates).restarts for rates in (steps, cosine_restarts, triangle, [0.1] * 12)] == [0, 0, 0, 0]
