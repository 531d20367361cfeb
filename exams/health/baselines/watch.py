"""What the rivals look at: one plain training, with numbers taken at the end of every epoch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..cases import Case
from ..losses import score
from ..training import Batch, Setup, train

EPOCH_STEPS = 20  # digits: 19 batches of 64 in an epoch; one length for all keeps the rules comparable


@dataclass
class Look:
    """Numbers at the end of one epoch.

    Attributes:
        accuracy: Training score over the epoch's batches, as Keras reports it.
        first_norm: Gradient norm of the first trainable weight matrix.
        last_norm: The same of the last.
        zero_share: Share of exactly zero gradient entries.
        mean_gradients: Mean absolute gradient of each tensor.
        gradient_spread: Smallest, over weight matrices, of the 5-95 percentile range of the gradient.
        is_finite: False if any gradient, weight or the loss is NaN or infinite.
        dead: Share of dead units of each ReLU layer (active on fewer than 1% of the batch).
        saturated: Share of saturated units of each tanh or sigmoid layer.
        update_ratios: Size of the last update over size of the weight, for each weight matrix.
        unchanged: Weight tensors that are as they were at the last look.
        variance_ratio: Largest, over layers, of the largest over smallest variance among a layer's units.
        output_means: Mean absolute output of each linear layer.
    """

    accuracy: float
    first_norm: float
    last_norm: float
    zero_share: float
    mean_gradients: list[float]
    gradient_spread: float
    is_finite: bool
    dead: list[float]
    saturated: list[float]
    update_ratios: list[float]
    unchanged: int
    variance_ratio: float
    output_means: list[float]


@dataclass
class Trace:
    """A training as the rivals see it."""

    has_classes: bool
    looks: list[Look] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@lru_cache(maxsize=1)
def watch_case(case: Case) -> Trace:
    """One training of the case, shared by all rivals."""
    setup = case.build()
    return watch(setup, setup.batches)


def watch(
    setup: Setup, batches: Sequence[Batch], measure: Callable[[Any, Tensor], float] = score, *,
    has_classes: bool | None = None,
) -> Trace:  # fmt: skip
    """Train the set-up on these batches, looking at it after every `EPOCH_STEPS`.

    Args:
        setup: Trained.
        batches: To train on.
        measure: callable(outputs, target) -> share of right answers.
        has_classes: Whether the targets are classes; None asks the set-up's data.
    """
    is_of_classes = setup.data.train_y.dtype == torch.long if has_classes is None else has_classes
    trace = Trace(has_classes=is_of_classes)
    before: dict[str, Tensor] = {}
    earlier: dict[str, Tensor] = {}
    right: list[float] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if module is setup.model:  # and not the copy that is looked into
            right.append(measure(output, targets[len(right)]))

    targets = [target for _, target in batches]
    hook = setup.model.register_forward_hook(remember)

    def after_step(step: int) -> None:
        nonlocal before, earlier
        if (step + 1) % EPOCH_STEPS == EPOCH_STEPS - 1:
            before = {name: p.detach().clone() for name, p in setup.model.named_parameters()}
        if (step + 1) % EPOCH_STEPS == 0:
            accuracy = sum(right[-EPOCH_STEPS:]) / EPOCH_STEPS
            trace.looks.append(_look(setup, batches[step], accuracy, before, earlier))
            earlier = {name: p.detach().clone() for name, p in setup.model.named_parameters()}

    try:
        trace.losses = train(setup, batches, after_step=after_step).losses
    finally:
        hook.remove()
    return trace


def _look(setup: Setup, batch: Batch, accuracy: float, before: dict[str, Tensor], earlier: dict[str, Tensor]) -> Look:
    named = {n: p for n, p in setup.model.named_parameters() if p.requires_grad and p.grad is not None}
    matrices = {n: p for n, p in named.items() if p.dim() > 1}
    gradients = [p.grad for p in matrices.values() if p.grad is not None] or [torch.zeros(1)]  # a loss without a graph
    every = torch.cat([p.grad.flatten() for p in named.values() if p.grad is not None] or [torch.zeros(1)])
    dead, saturated, outputs, output_is_finite = _activations(setup.model, batch[0])
    spreads = [(g.quantile(0.95) - g.quantile(0.05)).item() for g in gradients if torch.isfinite(g).all()]
    variances = [w.detach().flatten(1).var(1) for w in matrices.values() if w.shape[1] > 1]
    return Look(
        accuracy,
        gradients[0].norm().item(),
        gradients[-1].norm().item(),
        (every == 0).float().mean().item(),
        [g.abs().mean().item() for g in gradients],
        min(spreads, default=float("inf")),
        bool(torch.isfinite(every).all()) and output_is_finite,
        dead,
        saturated,
        [((p.detach() - before[n]).norm() / (p.detach().norm() + 1e-9)).item() for n, p in matrices.items()],
        sum(n in earlier and torch.allclose(p.detach(), earlier[n]) for n, p in matrices.items()),
        max(((v.max() / v.min().clamp_min(1e-30)).item() for v in variances), default=1.0),
        outputs,
    )


@torch.no_grad()
def _activations(model: nn.Module, inputs: Tensor) -> tuple[list[float], list[float], list[float], bool]:
    """Dead shares, saturated shares (SageMaker's limits), mean absolute outputs, on one batch."""
    dead: list[float] = []
    saturated: list[float] = []
    outputs: list[float] = []
    twin = copy.deepcopy(model)

    def look(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        before = given[0].reshape(-1, given[0].shape[-1] if given[0].dim() != 4 else given[0][0].numel())
        if isinstance(module, nn.ReLU):
            dead.append(((before > 0).float().mean(0) < 0.01).float().mean().item())
        elif isinstance(module, nn.Tanh):
            saturated.append(((before.abs() < 9.4999).float().mean(0) < 0.01).float().mean().item())
        elif isinstance(module, nn.Sigmoid):
            active = (before > -23) & (before < 16.99999)
            saturated.append((active.float().mean(0) < 0.01).float().mean().item())
        else:
            outputs.append(output.abs().mean().item())

    for module in twin.modules():
        if isinstance(module, nn.ReLU | nn.Tanh | nn.Sigmoid | nn.Linear | nn.Conv2d):
            module.register_forward_hook(look)
    result = twin(inputs)
    result = result[0] if isinstance(result, tuple) else result
    return dead, saturated, outputs, bool(torch.isfinite(result).all())
