"""Joint steps against torch's optimizers, one for each head."""

import pytest
import torch

from frostline.recipes.sweep import _optimizer
from frostline.selection.heads.scaled_steps import ScaledSteps
from helpers_sweep import settings

K, STEPS = 5, 7


def gradients(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(STEPS)]


def alone(start, given, at, grads, axis):
    weight = start.select(axis, at).clone().requires_grad_()
    optimizer = _optimizer(given.optimizer, [weight], given.lr, given.weight_decay)
    for grad in grads:
        weight.grad = grad.select(axis, at).clone()
        optimizer.step()
    return weight.detach()


NAMES = ("sgd", "adam", "adamw", "rmsprop")
KINDS = [("sgd", 0.1, 0.01), ("adamw", 1e-2, None), ("sgd", 1e-3, None), ("rmsprop", 1e-3, 0.1), ("adam", 1e-2, 0.1)]
MIXED = [{"optimizer": name, "lr": lr, "weight_decay": decay} for name, lr, decay in KINDS]
RATES = [{"optimizer": name, "lr": [1e-4, 1e-3, 1e-2, 0.1, 1.0]} for name in NAMES]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("given", [*RATES, {"optimizer": "adamw", "weight_decay": [0, 0.1, 1, 2, None]}, MIXED])
def test_a_joint_step_is_the_step_of_each_head(given, axis):
    own = settings(given)
    shapes = [(K, 4, 3), (K, 2)] if axis == 0 else [(4, K, 3), (2, K)]
    starts = [torch.randn(shape, generator=torch.Generator().manual_seed(at)) for at, shape in enumerate(shapes)]
    weights = [start.clone().requires_grad_() for start in starts]
    steps = ScaledSteps(weights, axis, own, _optimizer)
    grads = [gradients(shape, at) for at, shape in enumerate(shapes)]
    for pair in zip(*grads, strict=True):
        for weight, grad in zip(weights, pair, strict=True):
            weight.grad = grad.clone()
        steps.step()
        assert all(weight.grad is None for weight in weights)
    for weight, start, its in zip(weights, starts, grads, strict=True):
        for at, one in enumerate(own):
            torch.testing.assert_close(
                weight.detach().select(axis, at), alone(start, one, at, its, axis), rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("given", [{"lr": [1e-3] * K}, MIXED])
def test_dropped_heads_leave_the_others_their_memory(given):
    own, places = settings(given), [0, 2, 4]
    start = torch.randn(K, 3)
    weight = start.clone().requires_grad_()
    steps, grads = ScaledSteps([weight], 0, own, _optimizer), gradients((K, 3), 0)
    for at, grad in enumerate(grads):
        if at == 3:
            weight = weight.detach()[places].requires_grad_()
            steps.keep([weight], places, [own[place] for place in places])
        weight.grad = grad.clone() if at < 3 else grad[places]
        steps.step()
    for row, place in enumerate(places):
        torch.testing.assert_close(
            weight.detach()[row], alone(start, own[place], place, grads, 0), rtol=1e-5, atol=1e-6
        )


def test_a_parameter_without_a_gradient_stays():
    weights = [torch.ones(K, 2, requires_grad=True), torch.ones(K, requires_grad=True)]
    steps = ScaledSteps(weights, 0, settings({"weight_decay": [0.5] * K, "optimizer": "sgd"}), _optimizer)
    weights[0].grad = torch.ones(K, 2)
    steps.step()
    assert torch.equal(weights[1].detach(), torch.ones(K))
    assert not torch.equal(weights[0].detach(), torch.ones(K, 2))
