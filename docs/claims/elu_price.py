"""ELU against ReLU: time of a step, steps to a loss, time to a loss, time of a prediction.

`fl.remedies.price_activations` trains copies of a network side by side on digits, from the same weights, with the
same batches, in turns. The loss to reach is the one that ReLU has after 100 steps (mean of the last ten; AdamW,
learning rate 0.001, batch 64): five epochs, before the training loss is nearly 0 and says nothing. A first run with
300 steps had that fault: there the plain MLP with ELU did not get as near to 0 as ReLU. Every figure is a ratio to
ReLU of the same run: below 1 is better than ReLU. Steps are timed in turns; the spread over seeds says how much
noise is left.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import frostline as fl
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from reporting import PARTLY, RIGHT, WRONG, Claim, Table, digits, main, spread
from torch import nn

OTHERS = {"Leaky ReLU": "leaky_relu", "ELU": "elu"}
FIELDS = ("step", "predict", "steps to the loss", "time to the loss")


def mlp() -> nn.Module:
    """Six hidden layers of 128."""
    sizes = [64] + [128] * 6
    pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    return nn.Sequential(*[part for pair in pairs for part in pair], nn.Linear(128, 10))


def mlp_with_norms() -> nn.Module:
    """The same with BatchNorm before each activation."""
    sizes = [64] + [128] * 6
    pairs = [(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()) for a, b in pairwise(sizes)]
    return nn.Sequential(*[part for pair in pairs for part in pair], nn.Linear(128, 10))


def convolutions() -> nn.Module:
    """Four convolutions of 16 channels."""
    pairs = [(nn.Conv2d(1 if at == 0 else 16, 16, 3, padding=1), nn.ReLU()) for at in range(4)]
    parts = [part for pair in pairs for part in pair]
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *parts, nn.Flatten(), nn.Linear(16 * 64, 10))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "MLP": mlp, "MLP with BatchNorm": mlp_with_norms, "convolutions": convolutions,
}  # fmt: skip


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    seeds, steps = (1, 20) if is_quick else (5, 100)
    figures: dict[str, Any] = {}
    for network, build in NETWORKS.items():
        figures[network] = {name: {field: [] for field in FIELDS} for name in OTHERS}
        for seed in range(seeds):
            for name, ratios in _prices(build, seed, steps).items():
                for field, value in ratios.items():
                    figures[network][name][field].append(value)
    return figures, _claims(figures), [_table(figures, seeds)], _picture(figures)


def _prices(build: Callable[[], nn.Module], seed: int, steps: int) -> dict[str, dict[str, float | None]]:
    """Each candidate over ReLU; None where the loss was not reached in these steps."""
    torch.manual_seed(seed)
    data, model = digits(seed), build()
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    order = torch.randperm(len(data.train_labels))
    batches = [(data.train_NF[index], data.train_labels[index]) for index in order.split(64) if len(index) == 64]
    relu, *others = fl.remedies.price_activations(
        model, batches, F.cross_entropy, candidates=list(OTHERS.values()), steps=steps
    )
    found: dict[str, dict[str, float | None]] = {}
    for name, price in zip(OTHERS, others, strict=True):
        reached = price.steps_to_loss is not None and relu.steps_to_loss is not None
        found[name] = {
            "step": price.step_s / relu.step_s,
            "predict": price.predict_s / relu.predict_s,
            "steps to the loss": price.steps_to_loss / relu.steps_to_loss if reached else None,
            "time to the loss": price.time_to_loss_s / relu.time_to_loss_s if reached else None,
        }
    return found


def _all(figures: dict[str, Any], field: str) -> dict[str, float]:
    """By network, the median for ELU; a loss that was not reached counts as infinitely late."""
    return {network: median(_values(by["ELU"][field])) for network, by in figures.items()}


def _values(found: list[float | None]) -> list[float]:
    return [float("inf") if value is None else value for value in found]


def _verdict(values: dict[str, float], *, is_more: bool) -> str:
    borne_out = [value > 1.02 if is_more else value < 0.98 for value in values.values()]
    return RIGHT if all(borne_out) else PARTLY if any(borne_out) else WRONG


def _claims(figures: dict[str, Any]) -> list[Claim]:
    step, predict, steps, seconds = (_all(figures, field) for field in FIELDS)

    def text(values: dict[str, float]) -> str:
        return "; ".join(f"{network} {value:.2f}" for network, value in values.items())

    return [
        Claim("ELU is slower to compute per step.", f"time of a step, ELU / ReLU: {text(step)}",
              _verdict(step, is_more=True)),
        Claim(
            "ELU converges faster, which compensates for it.",
            f"steps to ReLU's final loss, ELU / ReLU: {text(steps)}; time to it: {text(seconds)}",
            _verdict(seconds, is_more=False),
        ),
        Claim("At test time ELU is slower.", f"time of a prediction of 64, ELU / ReLU: {text(predict)}",
              _verdict(predict, is_more=True)),
    ]  # fmt: skip


def _table(figures: dict[str, Any], seeds: int) -> Table:
    rows = [
        (network, name, *(spread(_values(by[name][field])) for field in FIELDS))
        for network, by in figures.items()
        for name in OTHERS
    ]
    title = f"Ratios to ReLU: median (lowest to highest of {seeds} seeds); inf: not reached in 100 steps"
    return Table(title, ("network", "activation", *FIELDS), tuple(rows))


def _picture(figures: dict[str, Any]) -> Any:
    figure, panels = plt.subplots(1, len(FIELDS), figsize=(10, 2.8))
    for axes, field in zip(panels, FIELDS, strict=True):
        for at, by in enumerate(figures.values()):
            for color, name in enumerate(OTHERS):
                values = [value for value in by[name][field] if value is not None]
                axes.plot(values, [at + 0.2 * color] * len(values), "o", color=f"C{color + 1}", markersize=3, alpha=0.7,
                          label=name if at == 0 else None)  # fmt: skip
        axes.axvline(1, color="C0", linewidth=1, label="ReLU")
        axes.set(title=field, yticks=range(len(figures)), xlabel="ratio to ReLU")
        axes.set_yticklabels(list(figures) if field == FIELDS[0] else [])
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].legend(frameon=False)
    return figure


if __name__ == "__main__":
    main("elu_price", __doc__ or "", run)
