"""The reference: a plain PyTorch loop, by which every ground truth is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from . import data as data_module
from . import losses, networks, optimizers, traits
from .data import Data
from .recipe import Recipe

Batch = tuple[Tensor, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Setup:
    """A training that is ready to start; a repair may replace the model and the optimizer, or set `clip`.

    Attributes:
        model: The network with its initial weights, in training mode.
        batches: What it is trained on, in order: `Recipe.steps` pairs of (inputs, target).
        loss_fn: Takes (outputs, target), gives a scalar.
        optimizer: Over the model's trainable parameters.
        data: All training and test rows, for evaluation and for the oracles; no judge sees them.
        clip: Largest gradient norm of the loop; 0 does not clip.
        zero_grad: False where the loop forgets to clear gradients.
        seed: Fixes the dropout of the loop.
    """

    model: nn.Module
    batches: list[Batch]
    loss_fn: Loss
    optimizer: torch.optim.Optimizer
    data: Data
    clip: float = 0.0
    zero_grad: bool = True
    seed: int = 0

    def evaluate(self, model: nn.Module | None = None) -> float:
        """Score of the model (or of another one) on the test rows in eval mode, 0 to 1."""
        return score(model or self.model, self.data.test_x, self.data.test_y)


def prepare(recipe: Recipe) -> Setup:
    """The recipe's training; the same recipe gives the same weights and batches to the bit."""
    with torch.random.fork_rng(devices=[]):
        data = data_module.load(recipe)
        model = traits.apply(_pretrained(networks.build(data, recipe), recipe), recipe).train()
        return Setup(
            model,
            data_module.batches(data, recipe),
            losses.LOSSES[recipe.loss],
            optimizers.build(model, recipe),
            data,
            recipe.clip,
            recipe.zero_grad,
            recipe.seed,
        )


def _pretrained(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The same network, already trained on other batches of the same data, if a trait of the recipe says so.

    `pretrained`: the loss starts near its floor. `new_head`: a trained body under a head that starts afresh.
    """
    if not traits.PRETRAINED.intersection(recipe.traits):
        return model
    has_new_head = "new_head" in recipe.traits
    others = () if has_new_head else tuple(name for name in recipe.traits if name not in traits.PRETRAINED)
    earlier = prepare(replace(recipe, traits=others, warmup=0))
    train(earlier, earlier.batches)
    model.load_state_dict(earlier.model.state_dict())
    if has_new_head:
        [module for module in model.modules() if isinstance(module, nn.Linear)][-1].reset_parameters()
    return model


@torch.no_grad()
def score(model: nn.Module, inputs: Tensor, target: Tensor, *, train_mode: bool = False) -> float:
    """Score on these rows in eval mode; in train mode BatchNorm takes the statistics of the rows at hand."""
    was_training = model.training
    momenta = [(m, m.momentum) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for module, _ in momenta:
        module.momentum = 0.0
    model.train(train_mode)
    try:
        return losses.score(model(inputs), target)
    finally:
        model.train(was_training)
        for module, momentum in momenta:
            module.momentum = momentum


@dataclass
class Course:
    """What a training looked like: loss of every step, gradient norm of every step, CPU seconds."""

    losses: list[float]
    norms: list[float]
    elapsed_s: float

    @property
    def is_finite(self) -> bool:
        """True if no loss and no gradient norm was NaN or infinite."""
        return all(value - value == 0 for value in (*self.losses, *self.norms))


def train(
    setup: Setup,
    batches: Sequence[Batch],
    *,
    after_step: Callable[[int], None] | None = None,
    measure: bool = False,
) -> Course:
    """Train the set-up's model on these batches in order.

    Args:
        setup: The training; its model and optimizer change.
        batches: Usually `setup.batches`, or a part of it.
        after_step: Called with the number of the step, after the gradients are there and the weights moved.
        measure: True also records the gradient norm of every step.
    """
    course = Course([], [], 0.0)
    parameters = [p for p in setup.model.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3000 + setup.seed)
        started = time.process_time()
        for step, (inputs, target) in enumerate(batches):
            if setup.zero_grad:
                setup.optimizer.zero_grad()
            loss = setup.loss_fn(setup.model(inputs), target)
            loss.backward()
            if measure:
                course.norms.append(
                    float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
                )
            if setup.clip:
                torch.nn.utils.clip_grad_norm_(parameters, setup.clip)
            setup.optimizer.step()
            course.losses.append(float(loss.detach()))
            if after_step is not None:
                after_step(step)
        course.elapsed_s = time.process_time() - started
    return course
