"""Gradients by depth: five activations, five initialisations, with and without BatchNorm.

Twelve hidden layers of 64 units. The gradient of each layer's weights is measured before training, on 256 digits, as
a root mean square; its growth from the last hidden layer down to the first is given in powers of ten (negative: it
vanishes). Then the same network is trained for five epochs (SGD, learning rate 0.01, momentum 0.9) and judged on
held-out digits. In layers of equal width Glorot's and LeCun's variances are the same: only the first and the last
layer differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from reporting import PARTLY, RIGHT, WRONG, Claim, Table, accuracy, digits, main, spread, train
from torch import nn

DEPTH, WIDTH = 12, 64
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU, "Leaky ReLU": nn.LeakyReLU, "ELU": nn.ELU,
}  # fmt: skip
DEVIATIONS: dict[str, Callable[[int, int], float]] = {
    "Glorot": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "He": lambda fan_in, _: math.sqrt(2 / fan_in),
    "LeCun": lambda fan_in, _: math.sqrt(1 / fan_in),
    "naive N(0, 1)": lambda *_: 1.0,
}
INITS = ("Glorot", "He", "LeCun", "torch's default", "naive N(0, 1)")
HEALTHY = 1.0  # a growth within a factor of ten over twelve layers, either way
HUGE = 10.0  # a gradient above it moves a weight further in one step than the largest weights are


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    seeds, epochs = (1, 0) if is_quick else (3, 5)
    figures: dict[str, Any] = {}
    for activation in ACTIVATIONS:
        for init in INITS:
            for has_norm in (False, True):
                found = [_measure(activation, init, has_norm, seed, epochs) for seed in range(seeds)]
                figures[_key(activation, init, has_norm)] = {
                    "gradients": [median(row) for row in zip(*(gradients for gradients, _ in found), strict=True)],
                    "growth": [math.log10(max(g[0], 1e-45) / max(g[-1], 1e-45)) for g, _ in found],
                    "accuracy": [score for _, score in found],
                }
    return figures, _claims(figures), _tables(figures), _picture(figures)


def _key(activation: str, init: str, has_norm: bool) -> str:
    return f"{activation}, {init}{', BatchNorm' if has_norm else ''}"


def _measure(activation: str, init: str, has_norm: bool, seed: int, epochs: int) -> tuple[list[float], float]:
    """The gradients of the hidden layers from the first to the last, and the accuracy after training."""
    torch.manual_seed(seed)
    data, model = digits(seed), _network(activation, init, has_norm)
    F.cross_entropy(model(data.train_NF[:256]), data.train_labels[:256]).backward()
    hidden = [layer for layer in model if isinstance(layer, nn.Linear)][:-1]
    gradients = [layer.weight.grad.double().square().mean().sqrt().item() for layer in hidden]
    train(model, data, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), epochs, seed)
    return gradients, accuracy(model, data.test_NF, data.test_labels)


def _network(activation: str, init: str, has_norm: bool) -> nn.Sequential:
    parts: list[nn.Module] = []
    for at in range(DEPTH + 1):
        layer = nn.Linear(WIDTH, WIDTH if at < DEPTH else 10)  # a digit has 64 pixels
        if init in DEVIATIONS:
            nn.init.normal_(layer.weight, std=DEVIATIONS[init](layer.in_features, layer.out_features))
            nn.init.zeros_(layer.bias)
        parts.append(layer)
        if at < DEPTH:
            parts += [nn.BatchNorm1d(WIDTH)] if has_norm else []
            parts.append(ACTIVATIONS[activation]())
    return nn.Sequential(*parts)


def _claims(figures: dict[str, Any]) -> list[Claim]:
    growth = {key: median(value["growth"]) for key, value in figures.items()}
    score = {key: median(value["accuracy"]) for key, value in figures.items()}
    plain = {key for key in figures if not key.endswith("BatchNorm")}
    sick = {key for key in plain if abs(growth[key]) > HEALTHY or max(figures[key]["gradients"]) > HUGE}
    well, ill = median(score[key] for key in plain - sick), median(score[key] for key in sick)
    return [
        Claim(
            "Vanishing and exploding gradients make deep networks hard to train.",
            f"without BatchNorm, {len(sick)} of {len(plain)} networks have gradients that shrink or grow more than "
            f"tenfold from layer 12 to 1, or exceed {HUGE:g} everywhere: median accuracy {ill:.2f}; "
            f"the other {len(plain - sick)}: {well:.2f}",
            RIGHT if ill < well - 0.1 else PARTLY if ill < well else WRONG,
        ),
        _norm_claim(growth, score),
        _init_claim(growth, score),
    ]


def _norm_claim(growth: dict[str, float], score: dict[str, float]) -> Claim:
    keys = [(a, init) for a in ("sigmoid", "tanh") for init in INITS]
    before, after = ([abs(growth[_key(*key, has_norm)]) for key in keys] for has_norm in (False, True))
    won = [score[_key(*key, True)] > score[_key(*key, False)] for key in keys]
    is_less = [b < a for a, b in zip(before, after, strict=True)]
    both = {a: (growth[_key(a, "Glorot", False)], growth[_key(a, "Glorot", True)]) for a in ("sigmoid", "tanh", "ReLU")}
    text = "; ".join(f"{a}, Glorot: 10^{x:.1f} becomes 10^{y:.1f}" for a, (x, y) in both.items())
    naive = [growth[_key(a, "naive N(0, 1)", True)] for a in ACTIVATIONS]
    return Claim(
        "BatchNorm before the activation strongly reduces vanishing gradients, even with sigmoid and tanh.",
        f"growth from last to first hidden layer: {text}. Nearer to 1 in {sum(is_less)} of {len(keys)} sigmoid and "
        f"tanh networks, accuracy higher in {sum(won)}. With naive weights and BatchNorm: 10^{min(naive):.1f} to "
        f"10^{max(naive):.1f}",
        RIGHT if all(is_less) and all(won) else PARTLY if sum(is_less) > len(keys) / 2 else WRONG,
    )


def _init_claim(growth: dict[str, float], score: dict[str, float]) -> Claim:
    rectifiers = ("ReLU", "Leaky ReLU", "ELU")
    he, glorot = ({a: growth[_key(a, init, False)] for a in ACTIVATIONS} for init in ("He", "Glorot"))
    text = "; ".join(f"{a}: He 10^{he[a]:.1f}, Glorot 10^{glorot[a]:.1f}" for a in ACTIVATIONS)
    is_nearer = [abs(he[a]) < abs(glorot[a]) for a in rectifiers] + [
        abs(glorot[a]) < abs(he[a]) for a in ("sigmoid", "tanh")
    ]
    trains = score[_key("sigmoid", "Glorot", False)]
    scores = "; ".join(
        f"{a}: He {score[_key(a, 'He', False)]:.2f}, Glorot {score[_key(a, 'Glorot', False)]:.2f}" for a in ACTIVATIONS
    )
    return Claim(
        "He initialisation for ReLU and its variants, Glorot for the others.",
        f"growth: {text}. Accuracy: {scores}",
        RIGHT if all(is_nearer) and trains > 0.5 else PARTLY if sum(is_nearer) > 2 else WRONG,
    )


def _tables(figures: dict[str, Any]) -> list[Table]:
    growths, scores = [], []
    for activation in ACTIVATIONS:
        for has_norm in (False, True):
            name = f"{activation}{' + BatchNorm' if has_norm else ''}"
            found = [figures[_key(activation, init, has_norm)] for init in INITS]
            growths.append((name, *(spread(value["growth"], 2) for value in found)))
            scores.append((name, *(spread(value["accuracy"], 2) for value in found)))
    seeds = len(figures[_key("ReLU", "He", False)]["growth"])
    return [
        Table(f"Gradient of the first hidden layer / of the last, power of ten: median (spread of {seeds} seeds)",
              ("network", *INITS), tuple(growths)),
        Table(f"Held-out accuracy after five epochs (chance is 0.10), {seeds} seeds",
              ("network", *INITS), tuple(scores)),
    ]  # fmt: skip


def _picture(figures: dict[str, Any]) -> Any:
    figure, panels = plt.subplots(1, len(ACTIVATIONS), figsize=(11, 3), sharey=True)
    for axes, activation in zip(panels, ACTIVATIONS, strict=True):
        for color, init in enumerate(INITS):
            for has_norm in (False, True):
                values = [max(v, 1e-12) for v in figures[_key(activation, init, has_norm)]["gradients"]]
                axes.plot(range(1, DEPTH + 1), values, "--" if has_norm else "-", color=f"C{color}", linewidth=1,
                          label=init + (" + BatchNorm" if has_norm else ""))  # fmt: skip
        axes.set(title=activation, xlabel="hidden layer", yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("gradient, root mean square")
    panels[-1].legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


if __name__ == "__main__":
    main("gradients_by_depth", __doc__ or "", run)
