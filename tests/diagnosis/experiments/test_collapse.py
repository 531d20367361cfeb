import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis.experiments.collapse import directions_apart
from frostline.diagnosis.experiments.own_step import SteppedModel
from helpers_health import codes, mlp, task

(ROWS, TARGET) = task(1)[0]


def cosine(first, second):
    return 1 - F.cosine_similarity(first, second).mean()


class Predicts(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))
        self.predictor = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, rows):
        return self.predictor(self.encoder(rows))


def views(batch):
    rows, _ = batch
    return rows * (torch.rand_like(rows) > 0.2), rows * (torch.rand_like(rows) > 0.2)


def not_stopped(model, batch):
    first, second = views(batch)
    return cosine(model(first), model.encoder(second))


def contrasted(model, batch):
    first, second = (F.normalize(model(one)) for one in views(batch))
    return F.cross_entropy(first @ second.T / 0.2, torch.arange(len(first)))


def found(step):
    model = Predicts()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return fl.checkup(model, task(120), step=step, optimizer=optimizer, progress=False)


def test_outputs_that_a_step_pulls_together_are_told():
    diagnosis = found(not_stopped)
    (finding,) = [one for one in diagnosis.findings if one.code == "FL404"]
    assert finding.outcome == "issue"
    assert "points the same way" in finding.why
    assert "detach" in finding.advice


def test_outputs_that_a_step_pushes_apart_are_not():
    assert "FL404" not in codes(found(contrasted))


def test_the_model_inside_of_a_step_is_asked_where_the_loss_sees_directions_only():
    def step(model, batch):
        return cosine(model(batch[0]), torch.ones(1, 16))

    inside = directions_apart(SteppedModel(Predicts(), step), ({"batch": (ROWS, TARGET)}, None), lambda loss, _: loss)
    assert inside == directions_apart(Predicts(), (ROWS, TARGET), lambda output, _: cosine(output, torch.ones(1, 16)))
    assert 0.05 < inside < 1
    assert directions_apart(mlp(), (ROWS, TARGET), lambda output, _: cosine(output, torch.ones(1, 3))) is None  # few
    assert directions_apart(mlp(), (ROWS, TARGET), F.cross_entropy) is None


def of_a_part(model, batch):
    return cosine(model[0](batch[0]), torch.ones(1, 16))


def of_sizes(model, batch):
    return model(input=batch[0]).sum()


@pytest.mark.parametrize("step", [of_a_part, of_sizes])
def test_a_step_that_calls_parts_only_or_sees_sizes_is_not_asked(step):
    assert directions_apart(SteppedModel(mlp(), step), ({"batch": (ROWS, TARGET)}, None), lambda loss, _: loss) is None
