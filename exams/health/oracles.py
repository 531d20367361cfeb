"""Evidence of a mechanism, in float64 and without the library: what a sickness must show to be in the exam.

The rules are those of the project's fact sheet (section 6.3) with three changes, each because the rule as written
would leave out trainings that are sick beyond doubt: vanishing is
also a first-layer gradient below 1% of the twin's (weights that are small in every layer shrink all gradients alike,
and their ratio stays 1), explosion is judged over the whole depth (He times 3 grows
by 3 a layer and is NaN within a few steps), and saturation by the share of (unit, row) pairs with a slope below
1% of the largest, not by the mean slope of a unit, which a few rows near zero keep up.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .training import Course, Setup, score

RECTIFIERS = (nn.ReLU,)
SQUASHING = (nn.Tanh, nn.Sigmoid)
ROWS = 512  # of the training set; enough for shares to a few percent


@dataclass(frozen=True)
class Evidence:
    """Measurements of one training, at its start (`_0`) and its end.

    Attributes:
        gradient_ratio_0: Gradient norm of the first weight matrix over that of the last.
        first_norm_0: Gradient norm of the first weight matrix.
        gradient_norm_0: Gradient norm of all parameters on the first batch.
        output_std_0: Standard deviation of the outputs on the training rows.
        distinct_0: Smallest share of distinct units over the hidden layers.
        input_std_max: Largest, over input columns, of the root mean square.
        input_std_ratio: Largest over smallest column standard deviation, constant columns left out.
        dead_0: Largest share, over layers, of ReLU units that are zero on every row, at the start.
        dead: The same at the end.
        saturated_0: Largest share, over layers, of (unit, row) pairs of tanh or sigmoid with a slope below 1%.
        saturated: The same at the end.
        bn_gap: Training-set score with the rows' own statistics minus the score in eval mode, at the end.
        bn_gap_exact: That gap after the statistics are taken afresh over all training rows.
        spikes: Largest over median gradient norm during the training.
        reversals: Share of neighbouring tenths of the training between which the mean loss rose by 5% or more.
        is_finite: True if every loss and gradient norm was finite.
    """

    gradient_ratio_0: float
    first_norm_0: float
    gradient_norm_0: float
    output_std_0: float
    distinct_0: float
    input_std_max: float
    input_std_ratio: float
    dead_0: float
    dead: float
    saturated_0: float
    saturated: float
    bn_gap: float
    bn_gap_exact: float
    spikes: float
    reversals: float
    is_finite: bool


def at_start(setup: Setup) -> dict[str, float]:
    """What is measured before the first step."""
    model = copy.deepcopy(setup.model).double()
    inputs = _double(setup.data.train_x[:ROWS])
    target = setup.data.train_y[:ROWS]
    target = _double(target)
    with torch.random.fork_rng(devices=[]):
        output = model(inputs)
        setup.loss_fn(output, target).backward()
    matrices = [p.grad for p in model.parameters() if p.dim() > 1 and p.grad is not None]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    dead, saturated = activation_shares(setup)
    values = inputs.double()
    columns = values.reshape(len(inputs), -1) if inputs.dim() == 2 else values.flatten(0, -2)
    spread = columns.std(0)
    spread = spread[spread > 1e-9]
    return {
        "gradient_ratio_0": _ratio(matrices[0].norm().item(), matrices[-1].norm().item()),
        "first_norm_0": matrices[0].norm().item(),
        "gradient_norm_0": torch.nn.utils.get_total_norm(gradients).item(),
        "output_std_0": output.std().item(),
        "distinct_0": _distinct_share(model),
        "input_std_max": columns.square().mean(0).sqrt().max().item(),
        "input_std_ratio": _ratio(spread.max().item(), spread.min().item()) if len(spread) else 1.0,
        "dead_0": dead,
        "saturated_0": saturated,
    }


def at_end(setup: Setup, course: Course) -> dict[str, float | bool]:
    """What is measured after the last step."""
    dead, saturated = activation_shares(setup)
    gap, exact = _bn_gaps(setup)
    return {
        "dead": dead,
        "saturated": saturated,
        "bn_gap": gap,
        "bn_gap_exact": exact,
        "spikes": _spikes(course.norms),
        "reversals": _reversals(course.losses),
        "is_finite": course.is_finite,
    }


@torch.no_grad()
def activation_shares(setup: Setup) -> tuple[float, float]:
    """Largest dead share of a ReLU layer, and largest saturated share of a tanh or sigmoid layer."""
    model = copy.deepcopy(setup.model).double().train()
    dead, saturated = [0.0], [0.0]

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        units = output.transpose(0, 1).flatten(1) if output.dim() == 4 else output.flatten(0, -2).T
        if isinstance(module, RECTIFIERS):
            dead.append((units <= 0).all(1).double().mean().item())
        slope = 1 - units.square() if isinstance(module, nn.Tanh) else 4 * units * (1 - units)
        if isinstance(module, SQUASHING):
            saturated.append((slope < 0.01).double().mean().item())

    for module in model.modules():
        if isinstance(module, RECTIFIERS + SQUASHING):
            module.register_forward_hook(look)
    with torch.random.fork_rng(devices=[]):
        model(_double(setup.data.train_x[:ROWS]))
    return max(dead), max(saturated)


def _double(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else (float("inf") if above > 0 else 1.0)


def _distinct_share(model: nn.Module) -> float:
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][:-1]
    shares = [len(torch.unique(m.weight.detach().flatten(1), dim=0)) / len(m.weight) for m in layers]
    return min(shares, default=1.0)


def _bn_gaps(setup: Setup) -> tuple[float, float]:
    """Gap between train-mode and eval-mode score on the training rows: as it is, and with exact statistics."""
    model = copy.deepcopy(setup.model)
    layers = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return 0.0, 0.0
    inputs, target = setup.data.train_x, setup.data.train_y
    own = score(model, inputs, target, train_mode=True)
    gap = own - score(model, inputs, target)
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = 1.0
    with torch.no_grad():
        model.train()(inputs)
    return gap, own - score(model, inputs, target)


def _spikes(norms: list[float]) -> float:
    values = torch.tensor([n for n in norms if n - n == 0])
    return _ratio(values.max().item(), values.median().item()) if len(values) else 1.0


def _reversals(losses: list[float]) -> float:
    means = [part.mean().item() for part in torch.tensor(losses).chunk(10)]
    rises = [later > 1.05 * earlier for earlier, later in itertools.pairwise(means)]
    return sum(rises) / max(1, len(rises))
