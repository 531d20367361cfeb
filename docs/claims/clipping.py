"""Clipping against exploding gradients: a recurrent network over 60 steps, and a deep feedforward one beside it.

Recurrent: the adding problem (Hochreiter, Schmidhuber 1997), 60 steps, 32 tanh units, orthogonal recurrent weights
times 1.3, 200 steps of SGD with momentum 0.9. Answering 1 always has a loss of 0.167. Feedforward: eight hidden ReLU
layers on digits, four epochs of the same optimiser. Clips are those of `fl.remedies`; the largest norm is measured
before clipping. A run exploded if its loss at
the end is no number or above ten times that of answering always the same (2.303 for digits); it learnt if its loss is
below half of that.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, median
from typing import Any

import frostline as fl
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from reporting import PARTLY, RIGHT, WRONG, Claim, Table, digits, main, spread, train
from torch import Tensor, nn

T, UNITS, BATCH = 60, 32, 32
RATES = (0.001, 0.01, 0.1)
CLIPS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "by value 0.1": lambda: fl.remedies.clip_by_value(0.1),
    "by norm 1": lambda: fl.remedies.clip_by_norm(1.0),
    "by percentile 50": lambda: fl.remedies.clip_by_percentile(50.0, warmup=5),
}
CONSTANT = {"recurrent": 0.167, "feedforward": 2.303}


class Adder(nn.Module):
    """The last state of a tanh network, read out as one number."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.readout = nn.RNN(2, UNITS, batch_first=True), nn.Linear(UNITS, 1)
        nn.init.orthogonal_(self.recurrent.weight_hh_l0, gain=1.3)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        """(B, T, 2) -> (B,)."""
        return self.readout(self.recurrent(inputs_BTF)[0][:, -1]).squeeze(-1)


class Ear:
    """A clip that notes the norm it found; without a clip, it only listens."""

    def __init__(self, clip: Any) -> None:
        self.clip, self.norms = clip, []

    def __call__(self, parameters: Any) -> None:
        """Note, then clip."""
        given = list(parameters)
        self.norms.append(float(nn.utils.get_total_norm([p.grad for p in given if p.grad is not None])))
        if self.clip is not None:
            self.clip(given)


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    seeds, steps, epochs = (1, 5, 1) if is_quick else (3, 200, 4)
    trained = {"recurrent": lambda *a: _recurrent(*a, steps), "feedforward": lambda *a: _feedforward(*a, epochs)}
    figures: dict[str, Any] = {}
    for network, measure in trained.items():
        figures[network] = {
            name: {str(rate): [measure(Ear(make()), rate, seed) for seed in range(seeds)] for rate in RATES}
            for name, make in CLIPS.items()
        }
    return figures, _claims(figures), _tables(figures, seeds), _picture(figures)


def adding(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(B, T, 2) values and marks, (B,) the sum of the two marked values, one in each half."""
    values_BT, marks_BT = torch.rand(BATCH, T, generator=generator), torch.zeros(BATCH, T)
    for start in (0, T // 2):
        at_B = torch.randint(start, start + T // 2, (BATCH,), generator=generator)
        marks_BT[torch.arange(BATCH), at_B] = 1
    return torch.stack([values_BT, marks_BT], dim=-1), (values_BT * marks_BT).sum(dim=1)


def _recurrent(ear: Ear, rate: float, seed: int, steps: int) -> dict[str, float]:
    torch.manual_seed(seed)
    model, generator = Adder(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    losses: list[float] = []
    for _ in range(steps):
        inputs_BTF, target_B = adding(generator)
        loss = F.mse_loss(model(inputs_BTF), target_B)
        optimizer.zero_grad()
        loss.backward()
        ear(model.parameters())
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] != losses[-1]:
            break
    return _result(losses, ear)


def _feedforward(ear: Ear, rate: float, seed: int, epochs: int) -> dict[str, float]:
    torch.manual_seed(seed)
    layers = [nn.Linear(64, 64) for _ in range(8)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    model = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())], nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return _result(train(model, digits(seed), optimizer, epochs, seed, clip=ear), ear)


def _result(losses: list[float], ear: Ear) -> dict[str, float]:
    ending = losses[-max(1, len(losses) // 10) :]
    return {"loss": fmean(ending), "largest": max(ear.norms), "middle": median(ear.norms)}


def _exploded(runs: list[dict[str, float]], network: str) -> int:
    return sum(not run["loss"] <= CONSTANT[network] * 10 for run in runs)


def _learnt(runs: list[dict[str, float]], network: str) -> int:
    return sum(run["loss"] < CONSTANT[network] / 2 for run in runs)


def _claims(figures: dict[str, Any]) -> list[Claim]:
    exploded, learnt = (
        {n: {clip: sum(count(runs, n) for runs in by.values()) for clip, by in f.items()} for n, f in figures.items()}
        for count in (_exploded, _learnt)
    )
    total = {n: sum(len(runs) for runs in f["none"].values()) for n, f in figures.items()}
    fewer = {n: found["none"] - max(found["by norm 1"], found["by value 0.1"]) for n, found in exploded.items()}
    texts = {n: f"exploded, of {total[n]} runs: {_listed(exploded[n])}; learnt: {_listed(learnt[n])}" for n in figures}
    peaks = {
        clip: max(run["largest"] for runs in by.values() for run in runs) for clip, by in figures["recurrent"].items()
    }
    helps = learnt["recurrent"]["by norm 1"] > learnt["recurrent"]["none"]
    return [
        Claim(
            "Clipping lessens exploding gradients in recurrent networks.",
            f"60 steps in time; {texts['recurrent']}. Largest norm before clipping: {_listed(peaks, '.2g')}",
            (RIGHT if helps else PARTLY) if fewer["recurrent"] > 0 else WRONG,
        ),
        Claim(
            "It is of use mostly in recurrent networks.",
            f"eight feedforward layers; {texts['feedforward']}",
            (PARTLY if fewer["feedforward"] > 0 else RIGHT) if fewer["recurrent"] > 0 else WRONG,
        ),
    ]


def _listed(values: dict[str, Any], form: str = "d") -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in values.items())


def _tables(figures: dict[str, Any], seeds: int) -> list[Table]:
    tables = []
    for network, by_clip in figures.items():
        rows = [
            (f"{float(rate):g}", clip, spread([run["loss"] for run in runs]), spread([run["largest"] for run in runs]),
             spread([run["middle"] for run in runs]), f"{_exploded(runs, network)} of {seeds}",
             f"{_learnt(runs, network)} of {seeds}")
            for rate in map(str, RATES)
            for clip, by_rate in by_clip.items()
            for runs in [by_rate[rate]]
        ]  # fmt: skip
        head = ("learning rate", "clip", "loss at the end", "largest norm", "median norm", "exploded", "learnt")
        tables.append(Table(f"The {network} network: median (lowest to highest of {seeds} seeds)", head, tuple(rows)))
    return tables


def _picture(figures: dict[str, Any]) -> Any:
    figure, panels = plt.subplots(1, 2, figsize=(8, 3))
    for axes, (network, by_clip) in zip(panels, figures.items(), strict=True):
        for color, (clip, by_rate) in enumerate(by_clip.items()):
            for rate, runs in zip(RATES, by_rate.values(), strict=True):
                losses = [run["loss"] for run in runs if run["loss"] < 1e6]
                axes.plot([rate * 1.25**color] * len(losses), losses, "o", color=f"C{color}", markersize=3, alpha=0.7,
                          label=clip if rate == RATES[0] else None)  # fmt: skip
        axes.axhline(CONSTANT[network], color="grey", linewidth=1, linestyle="--")
        axes.set(title=network, xlabel="learning rate", ylabel="loss at the end", xscale="log", yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=6)
    return figure


if __name__ == "__main__":
    main("clipping", __doc__ or "", run)
