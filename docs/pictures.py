"""Measures and draws the pictures of the pages: frost-line.svg, demo.svg (loss over time) and healing.svg.

python docs/pictures.py --measure   measures anew (a minute on one core), writes docs/pictures.json and draws
python docs/pictures.py             draws from docs/pictures.json

Times are processor times of one thread, all of one run: other programs on the machine hardly change them.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl

HERE = Path(__file__).parent
STORE = HERE / "pictures.json"
# Readable on white and on black; the two colours differ for colour-blind readers as well.
GREY, BLUE, ORANGE = "#808080", "#3d8bd4", "#d9822b"
_STYLE = {
    "svg.hashsalt": "frostline", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
    "savefig.transparent": True, "text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY,
    "xtick.color": GREY, "ytick.color": GREY, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False,
}  # fmt: skip


def measure() -> dict[str, Any]:
    """Everything that the pictures show."""
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # `fit` reports processor time then
    return {
        "torch": torch.__version__,
        "frost_line": _measure_frost_line(),
        "loss_over_time": _measure_loss_over_time(),
        "healing": _measure_healing(),
    }


def _measure_frost_line() -> dict[str, Any]:
    """Forward time of each layer of a ResNet-18 at 224 pixels, and what is stored if `layer3` is frozen."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5)
    fl.freeze(model, through="layer3")
    images = torch.randn(4, 3, 224, 224)
    (stored,) = fl.split(model, images).frontier
    seconds: dict[str, list[float]] = {}
    for name, child in model.named_children():
        _time_calls(child, seconds.setdefault(name, []))
    with torch.no_grad():
        for _ in range(9):
            model.eval()(images)
    total = sum(map(median, seconds.values()))
    layers = [
        {"name": name, "share": median(times) / total,
         "is_frozen": not any(p.requires_grad for p in model.get_submodule(name).parameters())}
        for name, times in seconds.items()
    ]  # fmt: skip
    return {"layers": layers, "stored": stored.name, "shape": list(stored.shape), "bytes": stored.bytes_per_sample}


def _time_calls(module: nn.Module, seconds: list[float]) -> None:
    started = [0.0]
    module.register_forward_pre_hook(lambda *_: started.__setitem__(0, time.process_time()))
    module.register_forward_hook(lambda *_: seconds.append(time.process_time() - started[0]))


def _measure_loss_over_time() -> list[dict[str, Any]]:
    """The second act of the demo: a network trained on the digits 0-4, its convolutions reused for 5-9."""
    demo: Any = importlib.import_module("frostline.demo.demo")
    load: Any = importlib.import_module("frostline.demo.data").load_placed_task
    torch.manual_seed(0)
    source, (task, _) = demo.DigitNet(), load(range(5, 10))
    fl.fit(source, load(range(5), 3)[0], epochs=8, lr=2e-3, cache=False, progress=False)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, cache in (("without the cache", False), ("with the cache", folder)):
            torch.manual_seed(0)
            model = demo.DigitNet()
            fl.reuse(source, model, through="body")
            fl.replace_head(model, 5)
            fl.freeze(model, through="body")
            result = fl.fit(model, task, epochs=16, lr=2e-3, cache=cache, monitor=False, progress=False)
            first_s = result.timings.split_s + result.timings.fill_s
            ends = [first_s + s for s in accumulate(epoch.elapsed_s for epoch in result.history)]
            losses = [epoch.train_loss for epoch in result.history]
            rows.append({"name": name, "first_s": first_s, "seconds": ends, "losses": losses})
    return rows


def _measure_healing() -> dict[str, Any]:
    """A network at a learning rate of 0.3 for Adam: what `heal` tries, and the same network untreated."""
    scans = importlib.import_module("sklearn.datasets").load_digits()
    x_BD, y_B = torch.tensor(scans.data, dtype=torch.float32) / 16, torch.tensor(scans.target)

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layers = [nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(32, 10))
        return model, torch.optim.Adam(model.parameters(), lr=0.3)

    model, optimizer = build()
    batches = [(x_BD[rows], y_B[rows]) for _ in range(10) for rows in torch.randperm(len(x_BD)).split(64)]
    rest, judged = batches[: -(len(batches) // 5)], batches[-(len(batches) // 5) :]

    def held_out(model: nn.Module) -> float:
        with torch.no_grad():
            return sum(float(F.cross_entropy(model(x), y)) for x, y in judged) / len(judged)

    start = held_out(model)
    races, later, healing = _healed(model, batches, optimizer)
    model, optimizer = build()
    untreated = [(0, start)]
    for step, (x, y) in enumerate(rest, 1):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if step % 15 == 0:
            untreated.append((step, held_out(model)))
    tried = [
        {"name": one.suspicion.remedy.name, "is_kept": one is winner,
         "marks": [(race.schedule.start, start), *((at, score.loss) for at, score in one.scores.items())]}
        for race, winner in races for one in race.runners
    ]  # fmt: skip
    return {"untreated": untreated, "tried": tried, "later": later, "num_races": len(races), "text": str(healing)}


def _healed(model: nn.Module, batches: list[Any], optimizer: torch.optim.Optimizer) -> tuple[list[Any], list[Any], Any]:
    """(races with their winners, scores of the winner afterwards, what `heal` returned), by listening to `heal`."""
    heal: Any = importlib.import_module("frostline.recipes.heal")
    races: list[Any] = []
    later: list[tuple[int, float]] = []

    class HeardRace(heal.Race):
        def run(self) -> Any:
            races.append((self, super().run()))
            return races[-1][1]

    class HeardMark(heal.BestMark):
        def look(self, patient: Any, steps: int) -> Any:
            score = super().look(patient, steps)
            later.append((steps, score.loss))
            return score

    plain = heal.Race, heal.BestMark
    heal.Race, heal.BestMark = HeardRace, HeardMark
    try:
        return races, later, fl.heal(model, batches, F.cross_entropy, optimizer)
    finally:
        heal.Race, heal.BestMark = plain


def draw_frost_line(found: dict[str, Any], axes: Any) -> None:
    """Bars of forward time by layer, and the line between frozen and trainable ones."""
    layers = found["layers"]
    first = next(at for at, layer in enumerate(layers) if layer["name"].startswith("layer"))  # the small ones before it
    stem = {"name": f"{layers[0]['name']} to {layers[first - 1]['name']}", "is_frozen": True,
            "share": sum(layer["share"] for layer in layers[:first])}  # fmt: skip
    layers = [stem, *layers[first:]]
    layers = [layer for layer in layers if layer["share"] >= 0.001 or not layer["is_frozen"]]
    names, shares = [layer["name"] for layer in layers], [layer["share"] for layer in layers]
    colours = [BLUE if layer["is_frozen"] else ORANGE for layer in layers]
    axes.bar(names, shares, color=colours, width=0.7)
    for at, share in enumerate(shares):
        axes.text(at, share, f"{share:.0%}" if share >= 0.005 else "<1%", ha="center", va="bottom", fontsize=9)
    line = names.index(found["stored"]) + 0.5
    frozen = sum(layer["share"] for layer in found["layers"] if layer["is_frozen"])
    top = 1.75 * max(shares)
    axes.axvline(line, ymax=0.9, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
    shape = " x ".join(map(str, found["shape"]))
    stored = f"frost line: {shape} values, {found['bytes'] / 1024:.0f} KB per image, are stored"
    axes.text(line, 0.93 * top, stored, ha="center")
    axes.text(line - 0.12, 0.72 * top, f"frozen: {frozen:.0%} of the time\nruns once per image", ha="right", color=BLUE)
    axes.text(line + 0.12, 0.72 * top, f"trains: {1 - frozen:.0%}\nruns in every epoch", ha="left", color=ORANGE)
    axes.set(ylim=(0, top), yticks=[], ylabel="forward time")
    axes.spines["left"].set_visible(False)


def draw_loss_over_time(rows: list[dict[str, Any]], axes: Any) -> None:
    """Training loss over seconds, split and fill included."""
    for row, colour in zip(rows, (ORANGE, BLUE), strict=True):
        axes.plot(row["seconds"], row["losses"], color=colour, marker="o", markersize=3)
        axes.annotate(f"{row['name']}: {row['seconds'][-1]:.2f} s", (row["seconds"][-1], row["losses"][-1]),
                      xytext=(8, 0), textcoords="offset points", color=colour, va="center")  # fmt: skip
    first = rows[1]
    axes.axvspan(0, first["first_s"], color=BLUE, alpha=0.12, linewidth=0)
    axes.text(first["first_s"] / 2, max(first["losses"]), "split, fill", ha="center", fontsize=8, color=BLUE)
    axes.set(xlabel="seconds of processor time", ylabel="training loss", yscale="log")
    axes.set_xlim(0, 1.35 * max(row["seconds"][-1] for row in rows))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())


def draw_healing(found: dict[str, Any], axes: Any) -> None:
    """Held-out loss over steps: without treatment, with those that were tried, and with the one that was kept."""
    axes.plot(*zip(*found["untreated"], strict=True), color=ORANGE, marker="o", markersize=3)
    axes.annotate(
        "untreated", found["untreated"][-1], xytext=(6, 0), textcoords="offset points", color=ORANGE, va="center"
    )
    kept = next(one for one in found["tried"] if one["is_kept"])
    dropped = sorted((one for one in found["tried"] if not one["is_kept"]), key=lambda one: -one["marks"][-1][1])
    for at, one in enumerate(dropped):
        axes.plot(*zip(*one["marks"], strict=True), color=GREY, linewidth=1)
        axes.plot(*one["marks"][-1], color=GREY, marker="x", markersize=5)
        place = (40, dropped[0]["marks"][-1][1] * 0.72**at)  # labels below one another
        arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "relpos": (0, 0.5)}
        axes.annotate(
            f"dropped: {one['name']}", one["marks"][-1], xytext=place, fontsize=8, va="center", arrowprops=arrow
        )
    course = kept["marks"] + [point for point in found["later"] if point[0] > kept["marks"][-1][0]]
    axes.plot(*zip(*course, strict=True), color=BLUE, marker="o", markersize=3)
    axes.annotate(
        f"kept: {kept['name']}", course[len(course) // 2], xytext=(0, 14), textcoords="offset points", color=BLUE
    )
    axes.set(xlabel="steps", ylabel="held-out loss", yscale="log")
    axes.set_xlim(0, 1.12 * found["untreated"][-1][0])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())


PICTURES: dict[str, tuple[str, Callable[[Any, Any], None], tuple[float, float]]] = {
    "frost-line.svg": ("frost_line", draw_frost_line, (7, 2.6)),
    "demo.svg": ("loss_over_time", draw_loss_over_time, (7, 2.8)),
    "healing.svg": ("healing", draw_healing, (7, 3.2)),
}


def main() -> None:
    """Draw all pictures, from new measurements if they are asked for."""
    if "--measure" in sys.argv:
        STORE.write_text(json.dumps(_rounded(measure()), indent=1) + "\n")
    found = json.loads(STORE.read_text())
    mpl.rcParams.update(_STYLE)
    for file, (name, draw, size) in PICTURES.items():
        figure, axes = plt.subplots(figsize=size)
        draw(found[name], axes)
        figure.tight_layout()
        figure.savefig(HERE / file, metadata={"Date": None})
        plt.close(figure)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value


if __name__ == "__main__":
    main()
