import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.core.errors import DataError
from helpers_health import mlp, sgd, task


def test_a_step_of_ones_own_is_examined_under_the_names_of_the_model():
    def step(models, batch):
        inputs, target = batch
        return F.cross_entropy(models["head"](models["body"](inputs).relu()), target)

    torch.manual_seed(0)
    models = nn.ModuleDict({"body": nn.Linear(12, 16), "head": nn.Linear(16, 3)})
    before = {name: value.clone() for name, value in models.state_dict().items()}
    nothing = torch.optim.SGD(models["head"].parameters(), 0.05)
    diagnosis = fl.checkup(models, task(40), step=step, optimizer=nothing, progress=False)
    (finding,) = [one for one in diagnosis.findings if one.code == "FL405"]
    assert "body: not in the optimizer" in finding.why
    assert finding.layer == "body"
    assert all(torch.equal(value, before[name]) for name, value in models.state_dict().items())


def test_a_healthy_step_has_no_issue():
    model = mlp()
    diagnosis = fl.checkup(
        model, task(40), None, sgd(model), step=lambda own, batch: F.cross_entropy(own(batch[0]), batch[1]),
        progress=False,
    )  # fmt: skip
    assert not [one for one in diagnosis.findings if one.outcome == "issue"]
    assert "pass loss_fn and batches" in str(diagnosis)
    assert "run `checkup`" not in str(diagnosis)


@pytest.mark.parametrize("options", [{}, {"loss_fn": F.cross_entropy, "step": lambda model, batch: model(batch)}])
def test_a_loss_or_a_step_is_asked_for(options):
    with pytest.raises(DataError, match="takes a loss, or a step of your own loop"):
        fl.checkup(mlp(), task(4), **options)


def test_what_is_no_step_is_refused():
    with pytest.raises(DataError, match="step cannot be called"):
        fl.checkup(mlp(), task(4), step=3)


def test_a_step_with_a_gradient_of_its_own_is_examined():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(), nn.Linear(16, 1))

    def step(own, batch):
        real, _ = batch
        middle = (real + 0.1).requires_grad_()
        (slope,) = torch.autograd.grad(own(middle).sum(), middle, create_graph=True)
        return own(real).mean() - own(-real).mean() + (slope.norm(dim=1) - 1).square().mean()

    diagnosis = fl.checkup(critic, task(40), step=step, optimizer=sgd(critic), progress=False)
    assert not [one for one in diagnosis.findings if one.outcome == "issue"]


def test_a_layer_outside_of_the_model_that_takes_no_single_row_is_no_obstacle():
    torch.manual_seed(0)
    model, target = mlp(), nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3))  # it trains elsewhere

    def step(own, batch):
        return F.mse_loss(own(batch[0]), target(batch[0]).detach())

    diagnosis = fl.checkup(model, task(10) * 4, step=step, optimizer=sgd(model), progress=False)
    assert not [one for one in diagnosis.findings if one.outcome == "issue"]
