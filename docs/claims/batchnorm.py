"""BatchNorm: learning rates that train, regularisation beside dropout, statistics and time at prediction.

Learning rates: six hidden layers of 64, plain SGD, six epochs, digits; a rate trains if it ends within five points of
the network's best accuracy. Regularisation: three hidden layers of 128 on 150 digits only, 80 epochs of AdamW, batch
30. Prediction: four convolutions of 32 channels and the six-layer network, plain, with BatchNorm, and with BatchNorm
folded by `fl.remedies.fold_batchnorm`; the three are timed in turns.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import frostline as fl
import matplotlib.pyplot as plt
import torch
from reporting import PARTLY, RIGHT, WRONG, Claim, Digits, Table, accuracy, digits, main, spread, train
from torch import nn

RATES = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "ReLU": nn.ReLU}
CURES = {"neither": (False, 0.0), "BatchNorm": (True, 0.0), "dropout": (False, 0.5), "both": (True, 0.5)}


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    seeds, epochs = (1, 1) if is_quick else (3, 6)
    figures: dict[str, Any] = {"rates": {}, "regularisation": {}}
    for name, kind in ACTIVATIONS.items():
        for has_norm in (False, True):
            key = f"{name}{' + BatchNorm' if has_norm else ''}"
            figures["rates"][key] = {
                str(rate): [_trained(kind, has_norm, rate, seed, epochs) for seed in range(seeds)] for rate in RATES
            }
    for name, (has_norm, dropout) in CURES.items():
        figures["regularisation"][name] = [
            _small(has_norm, dropout, seed, 2 if is_quick else 80) for seed in range(1 if is_quick else 10)
        ]
    figures["statistics"] = [_statistics(seed, epochs) for seed in range(seeds)]
    figures["prediction"] = _predictions(5 if is_quick else 200)
    claims = [_rate_claim(figures), *_other_claims(figures)]
    return figures, claims, _tables(figures), _picture(figures)


def _network(kind: type[nn.Module], sizes: list[int], *, has_norm: bool, dropout: float = 0.0) -> nn.Sequential:
    parts: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out)
        init = nn.init.kaiming_normal_ if kind is nn.ReLU else nn.init.xavier_normal_
        init(layer.weight)
        nn.init.zeros_(layer.bias)
        parts += [layer, *([nn.BatchNorm1d(fan_out)] if has_norm else []), kind()]
        parts += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*parts, nn.Linear(sizes[-1], 10))


def _trained(kind: type[nn.Module], has_norm: bool, rate: float, seed: int, epochs: int) -> float:
    torch.manual_seed(seed)
    data, model = digits(seed), _network(kind, [64] * 7, has_norm=has_norm)
    train(model, data, torch.optim.SGD(model.parameters(), lr=rate), epochs, seed)
    return accuracy(model, data.test_NF, data.test_labels)


def _small(has_norm: bool, dropout: float, seed: int, epochs: int) -> dict[str, float]:
    torch.manual_seed(seed)
    whole = digits(seed)
    data = Digits(whole.train_NF[:150], whole.train_labels[:150], whole.test_NF, whole.test_labels)
    model = _network(nn.ReLU, [64, 128, 128, 128], has_norm=has_norm, dropout=dropout)
    train(model, data, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0), epochs, seed, batch_size=30)
    return {
        "train": accuracy(model, data.train_NF, data.train_labels),
        "test": accuracy(model, data.test_NF, data.test_labels),
    }


def _statistics(seed: int, epochs: int) -> dict[str, float]:
    """How far the running statistics are from those of the training set, and what that costs."""
    torch.manual_seed(seed)
    data, model = digits(seed), _network(nn.ReLU, [64] * 7, has_norm=True)
    train(model, data, torch.optim.SGD(model.parameters(), lr=0.3), epochs, seed)
    running = accuracy(model, data.test_NF, data.test_labels)
    norms = [module for module in model if isinstance(module, nn.BatchNorm1d)]
    before = [norm.running_mean.clone() for norm in norms]
    fl.remedies.reestimate_batchnorm(model, [(part,) for part in data.train_NF.split(64)])
    away = [
        ((old - norm.running_mean).abs() / norm.running_var.sqrt().clamp_min(1e-6)).mean().item()
        for old, norm in zip(before, norms, strict=True)
    ]
    return {"away": fmean(away), "running": running, "whole set": accuracy(model, data.test_NF, data.test_labels)}


def _predictions(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds over those of the plain network, by network and variant."""
    found: dict[str, dict[str, list[float]]] = {}
    for network, build in {"MLP": _mlp, "convolutions": _convolutions}.items():
        plain, normed = build(False).eval(), build(True)
        normed(torch.randn(256, 64))  # statistics that are not 0 and 1
        normed.eval()
        folded = copy.deepcopy(normed)
        fl.remedies.fold_batchnorm(folded, torch.randn(8, 64))
        for size in (1, 64):
            inputs = torch.randn(size, 64)
            times = _interleaved([plain, normed, folded], inputs, rounds)
            found[f"{network}, batch {size}"] = {
                name: [a / b for a, b in zip(own, times[0], strict=True)]
                for name, own in zip(("with BatchNorm", "folded"), times[1:], strict=True)
            }
    return found


def _mlp(has_norm: bool) -> nn.Module:
    return _network(nn.ReLU, [64] * 7, has_norm=has_norm)


def _convolutions(has_norm: bool) -> nn.Module:
    parts: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for at in range(4):
        parts.append(nn.Conv2d(1 if at == 0 else 32, 32, 3, padding=1))
        parts += [nn.BatchNorm2d(32)] if has_norm else []
        parts.append(nn.ReLU())
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(32 * 64, 10))


@torch.inference_mode()
def _interleaved(models: list[nn.Module], inputs: torch.Tensor, rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in models]
    for at in range(rounds + 1):
        for place in range(len(models)):
            chosen = (at + place) % len(models)
            started = time.perf_counter()
            models[chosen](inputs)
            if at:
                times[chosen].append(time.perf_counter() - started)
    return times


def _working(by_rate: dict[str, list[float]]) -> list[float]:
    scores = {rate: median(values) for rate, values in by_rate.items()}
    return [float(rate) for rate, score in scores.items() if score >= max(scores.values()) - 0.05 and score > 0.5]


def _rate_claim(figures: dict[str, Any]) -> Claim:
    found: Callable[[str], list[float]] = lambda key: _working(figures["rates"][key])  # noqa: E731
    tops = {name: (max(found(name), default=0), max(found(f"{name} + BatchNorm"), default=0)) for name in ACTIVATIONS}
    text = "; ".join(
        f"{name}: {f'up to {a:g}' if a else 'none'} without, {f'up to {b:g}' if b else 'none'} with"
        for name, (a, b) in tops.items()
    )
    larger = [b > a for a, b in tops.values()]
    return Claim(
        "BatchNorm allows much larger learning rates.",
        f"rates that train, of {RATES[0]:g} to {RATES[-1]:g}: {text}",
        RIGHT if all(b >= 3 * a and b > a for a, b in tops.values()) else PARTLY if any(larger) else WRONG,
    )


def _other_claims(figures: dict[str, Any]) -> list[Claim]:
    tests = {name: [run["test"] for run in runs] for name, runs in figures["regularisation"].items()}
    neither, norm, dropout, both = (fmean(tests[name]) for name in CURES)
    wins = sum(a > b for a, b in zip(tests["BatchNorm"], tests["neither"], strict=True))
    away, old, new = (fmean(s[key] for s in figures["statistics"]) for key in ("away", "running", "whole set"))
    cost = {key: median(by["with BatchNorm"]) for key, by in figures["prediction"].items()}
    folded = {key: median(by["folded"]) for key, by in figures["prediction"].items()}
    is_slower = [value > 1.02 for value in cost.values()]
    return [
        Claim(
            "BatchNorm acts as a regulariser and reduces the need for dropout.",
            f"150 digits, held-out accuracy: neither {neither:.3f}, BatchNorm {norm:.3f} (better in {wins} of "
            f"{len(tests['neither'])} seeds), dropout {dropout:.3f}, both {both:.3f}",
            (RIGHT if wins == len(tests["neither"]) and both <= norm + 0.005 else PARTLY) if norm > neither else WRONG,
        ),
        Claim(
            "At test time BatchNorm uses the mean and deviation of the whole training set.",
            f"torch uses running averages of the last batches: on average {away:.3f} deviations away from the whole "
            f"set's mean; held-out accuracy {old:.3f}, with the whole set's (`reestimate_batchnorm`) {new:.3f}",
            RIGHT if away < 0.001 else PARTLY,
        ),
        Claim(
            "BatchNorm makes predictions slower.",
            f"time with BatchNorm / without: {_by_key(cost)}; folded / without: {_by_key(folded)}",
            RIGHT if all(is_slower) and min(folded.values()) > 1.1 else PARTLY if any(is_slower) else WRONG,
        ),
    ]


def _by_key(values: dict[str, float]) -> str:
    return "; ".join(f"{key} {value:.2f}" for key, value in values.items())


def _tables(figures: dict[str, Any]) -> list[Table]:
    rates = tuple((key, *(spread(by[str(r)], 2) for r in RATES)) for key, by in figures["rates"].items())
    small = tuple(
        (name, spread([r["train"] for r in runs]), spread([r["test"] for r in runs]),
         spread([r["train"] - r["test"] for r in runs], 2))
        for name, runs in figures["regularisation"].items()
    )  # fmt: skip
    prices = tuple((key, *(_quartiles(values) for values in by.values())) for key, by in figures["prediction"].items())
    found = tuple((f"{s['away']:.3f}", f"{s['running']:.3f}", f"{s['whole set']:.3f}") for s in figures["statistics"])
    return [
        Table("Held-out accuracy by learning rate: median (lowest to highest)", ("network", *map(str, RATES)), rates),
        Table("150 digits: median (lowest to highest)",
              ("network", "training accuracy", "held-out accuracy", "gap"), small),
        Table("Running statistics against the whole set's, by seed",
              ("mean away, in deviations", "accuracy, running", "accuracy, whole set"), found),
        Table("Time of a prediction / plain: median (middle half of the rounds)",
              ("network", "with BatchNorm", "folded"), prices),
    ]  # fmt: skip


def _quartiles(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{median(values):.2f} ({ordered[len(values) // 4]:.2f} to {ordered[3 * len(values) // 4]:.2f})"


def _picture(figures: dict[str, Any]) -> Any:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3))
    for at, (key, by_rate) in enumerate(figures["rates"].items()):
        left.plot(RATES, [median(values) for values in by_rate.values()], "--" if at % 2 else "-", color=f"C{at // 2}",
                  linewidth=1, label=key)  # fmt: skip
    left.set(xscale="log", xlabel="learning rate", ylabel="held-out accuracy", title="learning rates")
    left.legend(frameon=False, fontsize=6)
    for at, runs in enumerate(figures["regularisation"].values()):
        middle.plot([at] * len(runs), [run["test"] for run in runs], "o", markersize=3)
    middle.set(xticks=range(len(CURES)), ylabel="held-out accuracy", title="150 digits")
    middle.set_xticklabels(list(CURES))
    for at, by in enumerate(figures["prediction"].values()):
        right.bar([at - 0.2, at + 0.2], [median(values) for values in by.values()], 0.4, color=["C1", "C2"])
    right.axhline(1, color="C0", linewidth=1)
    right.set(xticks=range(len(figures["prediction"])), ylabel="time / plain", title="prediction: BatchNorm, folded")
    right.set_xticklabels([key.replace(", ", "\n") for key in figures["prediction"]], fontsize=6)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main("batchnorm", __doc__ or "", run)
