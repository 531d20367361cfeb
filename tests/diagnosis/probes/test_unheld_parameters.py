"""Loops of several networks, optimizers and passes, which are right: the monitor has nothing to say about them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from helpers_health import mlp, outcome, sgd, task

STEPS = 60


class Gan:
    """A generator and a discriminator of points, each with its optimizer."""

    def __init__(self):
        torch.manual_seed(0)
        self.made = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        self.judge = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        self.og = torch.optim.Adam(self.made.parameters(), 1e-3)
        self.od = torch.optim.Adam(self.judge.parameters(), 1e-3)

    def real(self):
        return torch.randn(16, 2) + 2

    def fake(self):
        return self.made(torch.randn(16, 4))

    def train_made(self):
        self.og.zero_grad()
        F.softplus(-self.judge(self.fake())).mean().backward()
        self.og.step()


def cleared_before(gan, monitor, _):
    gan.od.zero_grad()
    loss = F.softplus(-gan.judge(gan.real())).mean() + F.softplus(gan.judge(gan.fake().detach())).mean()
    loss.backward()
    gan.od.step()
    monitor.step(loss)
    gan.train_made()


def two_passes(gan, monitor, _):
    gan.od.zero_grad()
    first = F.softplus(-gan.judge(gan.real())).mean()
    first.backward()
    second = F.softplus(gan.judge(gan.fake().detach())).mean()
    second.backward()
    gan.od.step()
    monitor.step(first + second)
    gan.train_made()


def gradient_penalty(gan, monitor, _):
    gan.od.zero_grad()
    real, fake = gan.real(), gan.fake().detach()
    between = (real + torch.rand(16, 1) * (fake - real)).requires_grad_()
    (slope,) = torch.autograd.grad(gan.judge(between).sum(), between, create_graph=True)
    loss = gan.judge(fake).mean() - gan.judge(real).mean() + 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
    loss.backward()
    gan.od.step()
    monitor.step(loss)
    gan.train_made()


def every_second_step(gan, monitor, at):
    if at % 2:
        cleared_before(gan, monitor, at)
    else:
        gan.train_made()


def cleared_by_the_model(gan, monitor, _):
    gan.judge.zero_grad(set_to_none=False)
    loss = F.softplus(-gan.judge(gan.real())).mean() + F.softplus(gan.judge(gan.fake().detach())).mean()
    loss.backward()
    gan.od.step()
    monitor.step(loss)
    gan.train_made()


def frozen_in_turn(gan, monitor, at):
    gan.judge.requires_grad_(True)
    cleared_before_without_made(gan, monitor)
    gan.judge.requires_grad_(False)
    gan.train_made()


def cleared_before_without_made(gan, monitor):
    gan.od.zero_grad()
    loss = F.softplus(-gan.judge(gan.real())).mean() + F.softplus(gan.judge(gan.fake().detach())).mean()
    loss.backward()
    gan.od.step()
    monitor.step(loss)


GAN_LOOPS = [cleared_before, two_passes, gradient_penalty, every_second_step, cleared_by_the_model, frozen_in_turn]


@pytest.mark.parametrize("loop", GAN_LOOPS, ids=lambda loop: loop.__name__)
@pytest.mark.parametrize("watches", ["judge", "both"])
def test_a_gan_is_trained_in_turns(loop, watches):
    gan = Gan()
    model = gan.judge if watches == "judge" else nn.ModuleDict({"made": gan.made, "judge": gan.judge})
    with fl.Monitor(model, gan.od, every=5) as monitor:
        for at in range(STEPS):
            loop(gan, monitor, at)
    assert not [str(finding) for finding in monitor.findings if finding.outcome == "issue"]
    assert outcome(monitor, "FL504") <= {"passed", "not applicable"}
    assert outcome(monitor, "FL405") == {"passed"}


def test_a_discriminator_that_nobody_clears_is_told():
    gan = Gan()
    with fl.Monitor(gan.judge, gan.od, every=5) as monitor:
        for _ in range(STEPS):
            loss = F.softplus(-gan.judge(gan.real())).mean() + F.softplus(gan.judge(gan.fake().detach())).mean()
            loss.backward()
            gan.od.step()
            monitor.step(loss)
            gan.train_made()
    assert outcome(monitor, "FL504") == {"issue"}


def test_two_optimizers_with_a_loss_each_train_parts_of_one_model():
    model = mlp()
    first, second = sgd(model[0]), torch.optim.SGD([*model[2].parameters(), *model[4:].parameters()], lr=0.05)
    with fl.Monitor(model, first, every=5) as monitor:
        for inputs, target in task(STEPS):
            first.zero_grad()
            second.zero_grad()
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            first.step()
            again = F.cross_entropy(model(inputs), target)
            again.backward()  # adds to what the first has left, which is cleared before its next step
            second.step()
            monitor.step(loss)
    assert outcome(monitor, "FL504") == {"passed"}
    assert outcome(monitor, "FL405") == {"passed"}


def test_accumulation_on_purpose_is_none_by_mistake():
    model = mlp()
    optimizer = sgd(model)
    with fl.Monitor(model, optimizer, every=2) as monitor:
        for at, (inputs, target) in enumerate(task(STEPS)):
            loss = F.cross_entropy(model(inputs), target) / 4
            loss.backward()
            if at % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
                monitor.step(loss)
    assert outcome(monitor, "FL504") == {"passed"}


# Parameters that the optimizer does not hold


def plain(model, optimizer, steps=30):
    with fl.Monitor(model, optimizer) as monitor:
        for inputs, target in task(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), target)
            loss.backward()
            optimizer.step()
            monitor.step(loss)
    return monitor


def test_a_new_head_that_the_optimizer_does_not_hold_is_an_issue():
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    fl.replace_head(model, 3)
    monitor = plain(model, optimizer, 12)
    (finding,) = [one for one in monitor.findings if one.code == "FL405"]
    assert finding.outcome == "issue"
    assert "6: not in the optimizer" in finding.why
    assert finding.place == "layer '6' (Linear, 16 to 3)"
    assert not monitor.diagnosis.is_healthy


def test_layers_left_out_of_the_optimizer_are_a_tip():
    model = mlp()
    monitor = plain(model, torch.optim.Adam(model[2:].parameters(), 1e-2))
    (finding,) = [one for one in monitor.findings if one.code == "FL405"]
    assert finding.outcome == "tip"
    assert "0: not in the optimizer" in finding.why
    assert finding.place == "layer '0' (Linear, 12 to 16)"
    assert "training may be fine" not in str(monitor.diagnosis)


def test_frozen_layers_need_no_optimizer():
    model = mlp()
    fl.freeze(model, through="0")
    assert outcome(plain(model, torch.optim.Adam(model[2:].parameters(), 1e-2)), "FL405") == {"passed"}


def test_strangers_that_train_are_another_network():
    model, other = mlp(), nn.Linear(3, 3)
    optimizer = torch.optim.Adam([*model[2:].parameters(), *other.parameters()], 1e-2)
    with fl.Monitor(model, optimizer) as monitor:
        for inputs, target in task(30):
            optimizer.zero_grad()
            loss = F.cross_entropy(other(model(inputs)), target)
            loss.backward()
            optimizer.step()
            monitor.step(loss)
    assert outcome(monitor, "FL405") == {"tip"}


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_before_ten_steps_nothing_is_said_of_it(steps):
    model = mlp()
    assert outcome(plain(model, torch.optim.Adam(model[2:].parameters(), 1e-2), steps), "FL405") == {"not judged"}


# What cannot be watched


LAZY = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((mlp(), torch.optim.Adam), {}), ((mlp(), "adam"), {}), ((LAZY,), {}), ((mlp(),), {"every": "10"}),
        ((mlp(),), {"every": 0.5}),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_used_are_refused(arguments, options):
    with pytest.raises(fl.DataError):
        fl.Monitor(*arguments, **options)


def test_a_part_that_this_loop_leaves_alone_is_not_told():
    model = nn.ModuleDict({"body": mlp(), "other": nn.Linear(3, 3)})
    optimizer = sgd(model["body"])
    with fl.Monitor(model, optimizer) as monitor:
        for inputs, target in task(STEPS):
            optimizer.zero_grad()
            F.cross_entropy(model["body"](inputs), target).backward()
            optimizer.step()
    assert monitor.evidence.unheld == ()
    assert outcome(monitor, "FL405") == {"passed"}
