import pytest
import torch
from torch import nn

from frostline import Monitor
from frostline.diagnosis.monitor.accumulation import Accumulation
from helpers_health import mlp, outcome, sgd, task

X = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))


def verdict(loop, *, steps=5, train_all=True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters() if train_all else model[1].parameters(), lr=0.01)
    watch = Accumulation(model, optimizer)
    watch.attach()
    for at in range(steps):
        loop(model, optimizer, at)
        optimizer.step()
        watch.stepped()
    watch.remove()
    return watch.verdict


def backward(model, factor=1.0):
    (factor * model(X).square().mean()).backward()


def cleared(model, optimizer, _):
    optimizer.zero_grad()
    backward(model)


def never_cleared(model, *_):
    backward(model)


def on_purpose(model, optimizer, _):
    optimizer.zero_grad()
    for _ in range(3):
        backward(model, 1 / 3)


def filled_with_zeros(model, optimizer, _):
    optimizer.zero_grad(set_to_none=False)
    backward(model)


def never_cleared_and_clipped(model, *_):
    backward(model)
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)


def never_cleared_and_scaled(model, *_):
    backward(model, 1024.0)
    for parameter in model.parameters():
        parameter.grad.div_(1024.0)


@pytest.mark.parametrize("loop", [cleared, on_purpose, filled_with_zeros])
def test_what_is_cleared_is_not_flagged(loop):
    assert verdict(loop) is False


@pytest.mark.parametrize("loop", [never_cleared, never_cleared_and_clipped, never_cleared_and_scaled])
def test_what_is_not_cleared_is_flagged(loop):
    assert verdict(loop) is True


def test_parameters_of_others_are_none_of_its_business():
    assert verdict(cleared, train_all=False) is False  # the first layer's gradients grow, and nobody uses them


def test_too_few_steps_say_nothing():
    assert verdict(never_cleared, steps=3) is None
    assert verdict(lambda *_: None) is None


def test_three_comparisons_are_the_fewest():
    assert verdict(never_cleared, steps=3) is None  # the first step has nothing to compare with
    assert verdict(never_cleared, steps=4) is True


def test_without_an_optimizer_nothing_is_seen():
    watch = Accumulation(nn.Linear(2, 2), None)
    watch.attach()
    watch.stepped()
    watch.remove()
    assert watch.verdict is None


def test_sparse_gradients_are_left_alone():
    model = nn.Embedding(5, 3, sparse=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = Accumulation(model, optimizer)
    watch.attach()
    for _ in range(5):
        model(torch.tensor([1, 2])).sum().backward()
        optimizer.step()
        watch.stepped()
    assert watch.verdict is None


@pytest.mark.parametrize(("steps", "outcomes"), [(3, {"not applicable"}), (4, {"issue"})])
def test_three_steps_in_a_row_are_asked(steps, outcomes):
    model = mlp()
    optimizer = sgd(model, lr=1e-3)
    with Monitor(model, optimizer, every=1) as monitor:
        for inputs, target in task(steps):
            nn.functional.cross_entropy(model(inputs), target).backward()
            optimizer.step()
    assert outcome(monitor, "FL504") == outcomes
