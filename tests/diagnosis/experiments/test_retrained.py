from dataclasses import replace

import torch
from torch.nn import functional as F

from frostline.diagnosis import Patient
from frostline.diagnosis.experiments.budget import Budget
from frostline.diagnosis.experiments.examination import Suspicion, examine
from frostline.diagnosis.experiments.retrained import facts_of_order, is_learnt_by_heart, shuffled, twice_the_steps
from frostline.diagnosis.experiments.treatments import Remedy
from helpers_health import mlp, sgd, task

NOTHING = Suspicion(Remedy("nothing", (), lambda *_: None), "", False, True)


def examined(data=None, *, lr=0.05):
    model, data = mlp(), data or task(40)
    return examine(Patient(model, sgd(model, lr=lr)), data[:-8], data[-8:], F.cross_entropy)


def in_order(lr, steps=40):
    """Batches in the order of their classes."""
    inputs, target = (torch.cat(parts) for parts in zip(*task(steps), strict=True))
    order = target.argsort(stable=True)
    return examined(list(zip(inputs[order].split(16), target[order].split(16), strict=True)), lr=lr)


def outcomes(found):
    return [one.outcome for one in found.diagnosis.findings if one.code == "FL507"]


def test_whether_one_batch_is_learnt_by_heart():
    assert is_learnt_by_heart(examined(lr=0.1)) is True
    assert is_learnt_by_heart(examined(lr=1e-7)) is False
    found = examined()
    assert found.with_memory_test() is found  # it learns


def test_an_order_is_an_issue_only_where_shuffled_rows_train_better():
    sick, still = in_order(lr=0.1), in_order(lr=1e-6)
    assert facts_of_order(sick).is_better
    assert outcomes(sick.with_order()) == ["issue"]
    assert not facts_of_order(still).is_better
    assert outcomes(still.with_order()) == ["tip"]
    found = examined()
    assert found.with_order() is found


def test_where_rows_cannot_change_their_batch_an_order_is_not_tried():
    found = examined()
    assert facts_of_order(replace(found, data=[(x, y[:1]) for x, y in found.data])) is None


def test_twice_the_steps():
    found = examined(lr=0.01)
    assert twice_the_steps(found).share == replace(found, data=found.data * 2).attempt(NOTHING).score.share
    assert twice_the_steps(replace(found, budget=Budget(total_s=0.0, trial_s=1.0))) is None


def test_rows_change_their_batch_with_their_target():
    data = [({"x": torch.arange(6.0)[:, None] + 6 * at}, 10 * (torch.arange(6) + 6 * at)) for at in range(4)]
    found = shuffled([*data, ({"x": torch.tensor([[24.0]])}, torch.tensor([240]))])
    assert [len(target) for _, target in found] == [6, 6, 6, 6, 1]
    rows = torch.cat([inputs["x"][:, 0] for inputs, _ in found])
    assert torch.equal(torch.cat([target for _, target in found]), (10 * rows).long())
    assert sorted(rows.tolist()) == list(range(25))
    assert rows[:6].tolist() != list(range(6))


def test_rows_that_cannot_change_their_batch_stay():
    assert shuffled([(torch.zeros(4, 2), torch.tensor(1.0))] * 2) is None
    assert shuffled([(torch.zeros(4, 2), torch.zeros(4)), (torch.zeros(4, 3), torch.zeros(4))]) is None
