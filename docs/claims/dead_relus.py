"""Dead units against the learning rate: ReLU, Leaky ReLU, ELU.

Four hidden layers of 100 units (He initialisation), digits, ten epochs of SGD with momentum 0.9. A unit is silent if
its pre-activation is not positive for any training digit; it is dead if, moreover, its slope is below 0.001 for all
of them, so that nothing to speak of reaches its weights. Leaky ReLU's slope never is (0.01), ELU's may be: exp(z)
below z = -6.9. A run whose loss is no longer a number is counted as diverged, and its units are not counted.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import torch
from reporting import PARTLY, RIGHT, WRONG, Claim, Digits, Table, accuracy, digits, main, train
from torch import nn

RATES = (0.003, 0.01, 0.03, 0.1, 0.15, 0.2, 0.3)
ACTIVATIONS: dict[str, type[nn.Module]] = {"ReLU": nn.ReLU, "Leaky ReLU": nn.LeakyReLU, "ELU": nn.ELU}
FLAT = 1e-3
LAYERS, WIDTH = 4, 100


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    seeds, epochs = (1, 1) if is_quick else (5, 10)
    figures = {
        name: {str(rate): [_measure(kind, rate, seed, epochs) for seed in range(seeds)] for rate in RATES}
        for name, kind in ACTIVATIONS.items()
    }
    return figures, _claims(figures), [_table(figures, seeds)], _picture(figures)


def _measure(kind: type[nn.Module], rate: float, seed: int, epochs: int) -> dict[str, float | bool]:
    torch.manual_seed(seed)
    data, parts = digits(seed), []
    for at in range(LAYERS):
        layer = nn.Linear(64 if at == 0 else WIDTH, WIDTH)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
        parts += [layer, kind()]
    model = nn.Sequential(*parts, nn.Linear(WIDTH, 10))
    before = _shares(model, data)[1]
    losses = train(model, data, torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9), epochs, seed)
    silent, dead = _shares(model, data)
    return {
        "silent": silent, "dead": dead, "dead_before": before, "diverged": losses[-1] != losses[-1],
        "accuracy": accuracy(model, data.test_NF, data.test_labels),
    }  # fmt: skip


def _shares(model: nn.Sequential, data: Digits) -> tuple[float, float]:
    """(silent, dead) of all hidden units, over the whole training set."""
    silent, dead, values_NU = [], [], data.train_NF
    for layer in model:
        if not isinstance(layer, nn.Linear):
            inputs_NU = values_NU.detach().requires_grad_()
            (slope_NU,) = torch.autograd.grad(layer(inputs_NU).sum(), inputs_NU)
            silent.append((inputs_NU <= 0).all(dim=0).double())
            dead.append((slope_NU < FLAT).all(dim=0).double())
        values_NU = layer(values_NU).detach()
    return torch.cat(silent).mean().item(), torch.cat(dead).mean().item()


def _mean(runs: list[dict[str, Any]], field: str) -> float:
    sound = [run[field] for run in runs if not run["diverged"]]
    return fmean(sound) if sound else float("nan")


def _claims(figures: dict[str, Any]) -> list[Claim]:
    dead = {name: [_mean(runs, "dead") for runs in by_rate.values()] for name, by_rate in figures.items()}
    most = {name: max((v for v in values if v == v), default=0.0) for name, values in dead.items()}
    at = {name: RATES[values.index(most[name])] for name, values in dead.items() if most[name] in values}
    relu = ", ".join(
        f"{rate:g}: {value:.0%}" for rate, value in zip(RATES, dead["ReLU"], strict=True) if value == value
    )
    best = {
        name: max(_mean(runs, "accuracy") for runs in by.values() if _mean(runs, "accuracy") >= 0)
        for name, by in figures.items()
    }
    born, relus = _mean(figures["ReLU"]["0.01"], "dead_before"), figures["ReLU"].values()
    usable = max(_mean(runs, "dead") for runs in relus if _mean(runs, "accuracy") > best["ReLU"] - 0.05)
    lost = {name: sum(run["diverged"] for runs in by.values() for run in runs) for name, by in figures.items()}
    others = most["Leaky ReLU"], most["ELU"]
    return [
        Claim(
            "ReLUs can die during training, especially with a large learning rate.",
            f"dead ReLUs by learning rate {relu} (before training {born:.1%}). At rates that train (within five points "
            f"of the best accuracy) at most {usable:.0%}: mass death comes with a rate at which nothing is learnt",
            (RIGHT if usable > 0.1 else PARTLY) if most["ReLU"] > max(2 * born, 0.1) else WRONG,
        ),
        Claim(
            "Leaky ReLU and ELU do not die.",
            f"at worst {others[0]:.0%} of the Leaky ReLUs and {others[1]:.0%} of the ELUs have no slope above {FLAT:g}"
            f" (ELU at {at.get('ELU', 0):g}); diverged: {_listed(lost, 'd')}. Best accuracy {_listed(best, '.3f')}",
            RIGHT if max(others) < 0.01 else PARTLY if max(others) < most["ReLU"] or others[0] < 0.01 else WRONG,
        ),
    ]


def _listed(values: dict[str, Any], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def _table(figures: dict[str, Any], seeds: int) -> Table:
    rows = []
    for rate in RATES:
        for name, by_rate in figures.items():
            runs = by_rate[str(rate)]
            sound = [run for run in runs if not run["diverged"]]
            cells = [_range([run[field] for run in sound]) for field in ("dead", "silent", "accuracy")]
            rows.append((f"{rate:g}", name, *cells, f"{seeds - len(sound)} of {seeds}"))
    head = ("learning rate", "activation", "dead", "silent", "held-out accuracy", "diverged")
    return Table(f"Shares after training: mean (lowest to highest of {seeds} seeds)", head, tuple(rows))


def _range(values: list[float]) -> str:
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "-"


def _picture(figures: dict[str, Any]) -> Any:
    figure, panels = plt.subplots(1, 2, figsize=(8, 3))
    for axes, field in zip(panels, ("dead", "accuracy"), strict=True):
        for color, (name, by_rate) in enumerate(figures.items()):
            means = [_mean(runs, field) for runs in by_rate.values()]
            axes.plot(RATES, means, "o-", color=f"C{color}", markersize=3, label=name)
            for rate, runs in zip(RATES, by_rate.values(), strict=True):
                points = [run[field] for run in runs if not run["diverged"]]
                axes.plot([rate] * len(points), points, ".", color=f"C{color}", alpha=0.4, markersize=3)
        axes.set(xlabel="learning rate", xscale="log", ylabel="dead units" if field == "dead" else "held-out accuracy")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main("dead_relus", __doc__ or "", run)
