"""How many layers to reuse: `fl.choose_depth` against really fine-tuning at every line, on tasks of growing distance.

Digits: a network of six convolutions, trained on half of scikit-learn's digits 0 to 4, goes to the other half of them,
to 5 to 9, and to 5 to 9 rotated, inverted, noisy and with permuted pixels, with 100 training samples. Photographs:
EfficientNet-Lite0 with its ImageNet weights would go to the stamps of Tux Paint, emoji and handwritten digits at 64
pixels; these tasks are prepared (`PHOTO_TASKS`) and have not been run. At every line the
layers above it and a new output layer are trained (AdamW, two seeds for the digits); the accuracy is that on held-out
samples. A choice is right if it is at most one line beside the best one, or at most one point of accuracy behind it.
Correlations are Spearman's, over the lines of a task that freeze something. How far a task lies was set beforehand. The
tasks of the digits had been seen when the rule was written: they are no proof for others. Every result is kept in
`.claims/`; a second run goes on from there, and its time, above the table, is that of the rest.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import frostline as fl
import matplotlib.pyplot as plt
import torch
from depth_tasks import Task, digit_tasks, fine_tune, photo_tasks
from reporting import HERE, PARTLY, RIGHT, WRONG, Claim, Table, accuracy, main

WORK = HERE.parents[1] / ".claims"  # not below docs: what is fetched has pages of its own
SCORES = ("probe", "knn", "logme", "hscore", "regularized_hscore")
SEEDS, EPOCHS = 2, 40
PHOTO_SEEDS, PHOTO_EPOCHS = 1, 12
# Of "stamps by category", "emoji by category" and "handwritten digits"; each takes some minutes of processor time.
PHOTO_TASKS: tuple[str, ...] = ()
NEAR = 0.01  # points of accuracy that do not count


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    if is_quick:
        digits = [measured(task, 1, 1) for task in digit_tasks((60,), 1)[:2]]
        photos: list[dict[str, Any]] = []
    else:
        digits = [measured(task, SEEDS, EPOCHS, WORK) for task in digit_tasks((100,), 20)]
        photos = [measured(task, PHOTO_SEEDS, PHOTO_EPOCHS, WORK) for task in photo_tasks(WORK, 150, PHOTO_TASKS)]
    groups = {"digits": digits, "photographs": photos}
    figures = {name: {"tasks": tasks, **summary(tasks)} for name, tasks in groups.items()}
    return figures, _claims(figures), _tables(groups), _picture(groups)


def measured(task: Task, seeds: int, epochs: int, work: Path | None = None) -> dict[str, Any]:
    """The report, and the accuracy after fine-tuning at each of its lines.

    Args:
        task: The task.
        seeds: Trainings of each line.
        epochs: Of each training.
        work: A folder with what was measured before; None measures all anew.
    """
    chosen = _kept(work, f"{task.name} chosen", lambda: _chosen(task))
    lines: list[dict[str, Any]] = []
    all_s = 0.0
    for line in chosen["lines"]:
        found = [_kept(work, f"{task.name} {line['through']} {seed} {epochs}",
                       lambda seed=seed, line=line: _fine_tuned(task, line["freeze"], seed, epochs))
                 for seed in range(seeds)]  # fmt: skip
        lines.append({**line, "accuracy": fmean(one["accuracy"] for one in found)})
        all_s += sum(one["seconds"] for one in found)
    return {**chosen, "task": task.name, "distance": task.distance, "lines": lines, "all_s": all_s}


def _kept(work: Path | None, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if work is None:
        return measure()
    path = work / f"{''.join(c if c.isalnum() else '-' for c in name)}.json"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measure(), indent=1))
    return json.loads(path.read_text())


def _chosen(task: Task) -> dict[str, Any]:
    data = torch.utils.data.TensorDataset(task.train_NCHW, task.train_labels)
    with tempfile.TemporaryDirectory() as cache:
        started = time.process_time()
        report = fl.choose_depth(
            task.source(), data, candidates=task.candidates, cache=Path(cache), progress=False
        )  # fmt: skip
        seconds = time.process_time() - started
    lines = [{"through": row.name, "freeze": row.through,
              **{name: getattr(row, name) for name in (*SCORES, "probe_error", "energy")}}
             for row in report.table]  # fmt: skip
    return {"best": report.best or report.table[0].name, "lines": lines, "choose_s": seconds, "advice": report.advice}


def _fine_tuned(task: Task, through: str | None, seed: int, epochs: int) -> dict[str, Any]:
    started, model = time.process_time(), task.source()
    torch.manual_seed(seed)
    fl.replace_head(model, task.num_classes, name=[name for name, module in model.named_modules()
                                                   if isinstance(module, torch.nn.Linear)][-1])  # fmt: skip
    if through is not None:
        fl.freeze(model, through=through)
    fine_tune(model, task.train_NCHW, task.train_labels, epochs, seed)
    parts = zip(task.test_NCHW.split(64), task.test_labels.split(64), strict=True)
    hits = sum(accuracy(model, x, y) * len(y) for x, y in parts)
    return {"accuracy": hits / len(task.test_labels), "seconds": time.process_time() - started}


def summary(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Right choices, correlations, and what choosing costs."""
    if not tasks:
        return {"right": None, "spearman": dict.fromkeys(SCORES), "cost": None, "depth_by_distance": None}
    from scipy.stats import spearmanr

    correlations: dict[str, list[float]] = {name: [] for name in SCORES}
    for task in tasks:
        lines = task["lines"][1:]
        for name in SCORES:
            value = float(spearmanr([line[name] for line in lines], [line["accuracy"] for line in lines]).statistic)
            correlations[name].append(0.0 if value != value else value)
    depths = [best_depth(task) for task in tasks]
    distances = [task["distance"] for task in tasks]
    known = len(set(distances)) > 1
    fall = (float(spearmanr(distances, depths).statistic) if len(set(depths)) > 1 else 0.0) if known else None
    return {
        "right": fmean(is_right(task) for task in tasks),
        "spearman": {name: fmean(values) for name, values in correlations.items()},
        "cost": sum(task["choose_s"] for task in tasks) / sum(task["all_s"] for task in tasks),
        "depth_by_distance": fall,
    }  # fmt: skip


def best_depth(task: dict[str, Any]) -> float:
    """The deepest line at most one point behind the best, as a share of all lines: 0 trains everything."""
    top = max(line["accuracy"] for line in task["lines"])
    deepest = max(at for at, line in enumerate(task["lines"]) if line["accuracy"] >= top - NEAR)
    return deepest / (len(task["lines"]) - 1)


def is_right(task: dict[str, Any]) -> bool:
    """True if the choice is one line beside the best, or one point behind it."""
    values = [line["accuracy"] for line in task["lines"]]
    names = [line["through"] for line in task["lines"]]
    chosen, best = names.index(task["best"]), max(range(len(values)), key=lambda at: values[at])
    return abs(chosen - best) <= 1 or values[chosen] >= values[best] - NEAR


def _verdict(values: list[float | None], limit: float, *, above: bool = True) -> str:
    known = [value for value in values if value is not None]
    hits = [(value >= limit) if above else (value <= limit) for value in known]
    return RIGHT if all(hits) else PARTLY if any(hits) else WRONG


def _claims(figures: dict[str, Any]) -> list[Claim]:
    def told(key: str, form: str = "{:.2f}") -> str:
        parts = [(name, group[key]) for name, group in figures.items()]
        return "; ".join(f"{name} {form.format(v) if v is not None else 'not run'}" for name, v in parts)

    probes = {name: group["spearman"]["probe"] for name, group in figures.items()}
    groups = list(figures.values())
    return [
        Claim("The more similar the tasks are, the more layers you want to reuse.",
              f"correlation of distance with the best depth: {told('depth_by_distance')}",
              _verdict([group["depth_by_distance"] for group in groups], -0.5, above=False)),
        Claim("`choose_depth` is within one line, or one point, of the best in at least 90% of the tasks.",
              f"share of tasks: {told('right')}", _verdict([group["right"] for group in groups], 0.9)),
        Claim("The linear probe ranks lines as fine-tuning does (Spearman 0.8 or more).",
              "; ".join(f"{name} {'not run' if v is None else f'{v:.2f}'}" for name, v in probes.items()),
              _verdict(list(probes.values()), 0.8)),
        Claim("Choosing costs at most 10% of fine-tuning at all lines.",
              f"share of processor time, without a cache: {told('cost')}",
              _verdict([group["cost"] for group in groups], 0.1, above=False)),
    ]  # fmt: skip


def _tables(groups: dict[str, list[dict[str, Any]]]) -> list[Table]:
    tables: list[Table] = []
    for group, tasks in groups.items():
        rows: list[tuple[str, ...]] = []
        for task in tasks:
            best = max(task["lines"], key=lambda line: line["accuracy"])
            chosen = next(line for line in task["lines"] if line["through"] == task["best"])
            rows.append((task["task"], str(task["distance"]), f"{best['through']} ({best['accuracy']:.3f})",
                         f"{chosen['through']} ({chosen['accuracy']:.3f})", "yes" if is_right(task) else "no",
                         f"{task['choose_s']:.1f} s", f"{task['all_s']:.0f} s"))  # fmt: skip
        tables.append(Table(f"{group.capitalize()}: chosen and best", ("task", "distance", "best line", "chosen line",
                            "right", "choosing", "all lines"), tuple(rows)))  # fmt: skip
        spearman = summary(tasks)["spearman"]
        tables.append(Table(f"{group.capitalize()}: correlation with the fine-tuned accuracy", SCORES,
                            (tuple("" if v is None else f"{v:.2f}" for v in spearman.values()),)))  # fmt: skip
        for task in tasks:
            tables.append(Table(task["task"], ("line", "fine-tuned", "probe", "5-NN", "LogME", "energy"), tuple(
                (line["through"], f"{line['accuracy']:.3f}", *(
                    "" if line[name] is None else f"{line[name]:.3f}" for name in ("probe", "knn", "logme", "energy")))
                for line in task["lines"])))  # fmt: skip
    return tables


def _picture(groups: dict[str, list[dict[str, Any]]]) -> Any:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for axis, (name, tasks) in zip(axes, groups.items(), strict=True):
        axis.set_title(f"{name}: fine-tuned accuracy by frozen share of lines")
        for task in tasks:
            values = [line["accuracy"] for line in task["lines"]]
            places = [at / (len(values) - 1) for at in range(len(values))]
            chosen = [line["through"] for line in task["lines"]].index(task["best"])
            (line,) = axis.plot(places, values, linewidth=1, label=task["task"])
            axis.plot(places[chosen], values[chosen], "o", color=line.get_color(), markersize=4)
        if tasks:
            axis.legend(fontsize=5)
    return figure


if __name__ == "__main__":
    main("depth", str(__doc__), run)
