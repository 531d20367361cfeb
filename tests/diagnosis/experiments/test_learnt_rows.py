import torch
from torch.nn import functional as F

from frostline.diagnosis.experiments.learnt_rows import facts_of_heart
from frostline.diagnosis.experiments.score import score
from helpers_health import mlp, run, sgd, task


def test_rows_that_are_learnt_by_heart_cost_less_than_others():
    torch.manual_seed(0)
    own = [(torch.randn(16, 12), torch.randint(3, (16,))) for _ in range(3)]
    others = [(torch.randn(16, 12), torch.randint(3, (16,))) for _ in range(3)]
    model = mlp(width=128)
    run(model, sgd(model), data=own * 60)
    facts = facts_of_heart(model, own * 60, score(model, others, F.cross_entropy), F.cross_entropy)
    assert facts.trained_loss < 0.1 * facts.held_out_loss
    assert (facts.rows, facts.times, facts.in_a_row) == (48, 60.0, 1.0)


def test_batches_that_come_several_times_in_a_row():
    model, data = mlp(), task(5)
    repeated = [batch for batch in data for _ in range(4)]
    assert facts_of_heart(model, repeated, score(model, data, F.cross_entropy), F.cross_entropy).in_a_row == 4.0
    one = data[:1] * 12  # a batch of all rows is none of these
    assert facts_of_heart(model, one, score(model, data, F.cross_entropy), F.cross_entropy).in_a_row == 1.0
