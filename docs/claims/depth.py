"""How many layers to reuse: `fl.choose_depth` against really fine-tuning at every line, on tasks of growing distance.

Digits: a network of six convolutions, trained on half of scikit-learn's digits 0 to 4, goes to the other half of them,
to 5 to 9, and to 5 to 9 rotated, inverted, noisy and with permuted pixels, with 100 training samples. New digits: the
same with the digits exchanged (trained on 5 to 9), and with a transformer of four blocks. Photographs: EfficientNet-
Lite0 with its ImageNet weights goes to the stamps of Tux Paint (photographs and drawings), to emoji and to handwritten
digits, as they are and changed, at 64 pixels with 200 training samples, and is frozen at six borders; new photographs
are other emoji, and other changes. At every line the layers above it and a new output layer are trained (AdamW with a
cosine schedule, batches of 32, two seeds for every line; the
digits for 40 epochs, the others for 10, which are 70 steps); what is below is computed once, BatchNorm statistics are
taken anew at the end, and the accuracy is that on held-out samples.

A choice is right if it is at most one line beside the best one, or at most one point of accuracy behind it. Beside
that count stands that of choices that are behind the best line by less than the noise: twice the standard error of a
difference of two lines, from differences between seeds of this network. Correlations are Spearman's, over the lines of
a task that freeze something: of all accuracies as they are (a score that is the same at all lines counts as 0), and
with accuracies tied that differ by less than the noise (tasks without any difference are left out). Costs are shares
of one training at each line. How far a task lies was set beforehand. The rule was made on the digits and the
photographs; the new tasks were set without looking at scores or accuracies, and asked once, after it. Every result is
kept in `.claims/`; a second run goes on from there, and its time, above the table, is that of the rest.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import frostline as fl
import matplotlib.pyplot as plt
import numpy as np
import torch
from depth_tasks import Task, digit_tasks, fine_tune, photo_tasks, transformer
from frostline.remedies import reestimate_batchnorm
from reporting import HERE, PARTLY, RIGHT, WRONG, Claim, Table, accuracy, main
from scipy.stats import rankdata

WORK = HERE.parents[1] / ".claims"  # not below docs: what is fetched has pages of its own
SCORES = ("reachable", "probe", "knn", "logme", "hscore", "regularized_hscore")
SEEDS, EPOCHS = 2, 40
PHOTO_EPOCHS, PHOTO_SAMPLES = 10, 200
PHOTOS = ("stamps by category", "handwritten digits", "emoji by category", "handwritten digits, noisy",
          "stamps, negative", "handwritten digits, tiles permuted", "handwritten digits, dark on light",
          "emoji, tiles permuted")  # fmt: skip
NEW_PHOTOS = ("emoji of other groups", "stamps, grey and blurred", "emoji, negative", "scans of digits")
NEAR = 0.01  # points of accuracy that do not count


def run(is_quick: bool) -> tuple[dict[str, Any], list[Claim], list[Table], Any]:
    """The figures, the verdicts, the tables, the picture."""
    if is_quick:
        digits = with_noise([measured(task, 1, 1) for task in digit_tasks((60,), 1)[:2]])
        groups = {"digits": digits, "new digits": [], "photographs": [], "new photographs": []}
    else:
        exchanged = digit_tasks((100,), 20, is_reversed=True, prefix="reversed: ")
        of_transformer = digit_tasks((100,), 20, transformer, "transformer: ")
        photos = _with_seeds(photo_tasks(WORK, PHOTO_SAMPLES, PHOTOS + NEW_PHOTOS), PHOTO_EPOCHS)
        groups = {
            "digits": _with_seeds(digit_tasks((100,), 20)),
            "new digits": _with_seeds(exchanged) + _with_seeds(of_transformer),
            "photographs": [task for task in photos if task["task"] in PHOTOS],
            "new photographs": [task for task in photos if task["task"] in NEW_PHOTOS],
        }
    figures = {name: {"tasks": tasks, **summary(tasks)} for name, tasks in groups.items()}
    return figures, _claims(figures), _tables(groups), _picture(groups)


def _with_seeds(tasks: list[Task], epochs: int = EPOCHS) -> list[dict[str, Any]]:
    return with_noise([measured(task, SEEDS, epochs, WORK) for task in tasks])


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
        lines.append({**line, "accuracy": fmean(one["accuracy"] for one in found),
                      "by_seed": [one["accuracy"] for one in found]})  # fmt: skip
        all_s += fmean(one["seconds"] for one in found)
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
              **{name: getattr(row, name) for name in (*SCORES, "probe_error", "reachable_error", "energy")}}
             for row in report.table]  # fmt: skip
    return {"best": report.best or report.table[0].name, "lines": lines, "choose_s": seconds, "advice": report.advice}


def _fine_tuned(task: Task, through: str | None, seed: int, epochs: int) -> dict[str, Any]:
    """Accuracy on held-out samples; what is below the line is computed once."""
    started, model = time.process_time(), task.source()
    torch.manual_seed(seed)
    fl.replace_head(model, task.num_classes, name=[name for name, module in model.named_modules()
                                                   if isinstance(module, torch.nn.Linear)][-1])  # fmt: skip
    train, test = task.train_NCHW, task.test_NCHW
    if through is not None:
        fl.freeze(model, through=through)
        split = fl.split(model, train[:4])
        (train,), (test,) = (_features(split, images) for images in (train, test))
        model = split.head
    fine_tune(model, train, task.train_labels, epochs, seed, task.lr)
    reestimate_batchnorm(model, [(part,) for part in train.split(32) if len(part) > 1])
    parts = zip(test.split(64), task.test_labels.split(64), strict=True)
    hits = sum(accuracy(model, x, y) * len(y) for x, y in parts)
    return {"accuracy": hits / len(task.test_labels), "seconds": time.process_time() - started}


def _features(split: Any, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return [torch.cat(own) for own in zip(*(split.extract(part) for part in images.split(64)), strict=True)]


def summary(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """Right choices, correlations, and what choosing costs."""
    if not tasks:
        none = dict.fromkeys(SCORES)
        return {"right": None, "within_noise": None, "behind": None, "spearman": none, "spearman_tied": none,
                "cost": None, "depth_by_distance": None}  # fmt: skip
    depths, distances = [best_depth(task) for task in tasks], [task["distance"] for task in tasks]
    tied = {name: [correlation(task, name, task["noise"]) for task in tasks] for name in SCORES}
    return {
        "right": fmean(is_right(task) for task in tasks),
        "within_noise": fmean(behind(task) <= task["noise"] for task in tasks),
        "behind": fmean(behind(task) for task in tasks),
        "spearman": {name: fmean(correlation(task, name, 0.0) or 0.0 for task in tasks) for name in SCORES},
        "spearman_tied": {name: fmean(known) if (known := [one for one in own if one is not None]) else None
                          for name, own in tied.items()},
        "cost": sum(task["choose_s"] for task in tasks) / sum(task["all_s"] for task in tasks),
        "depth_by_distance": _pearson(rankdata(distances), rankdata(depths)) if len(set(distances)) > 1 else None,
    }  # fmt: skip


def correlation(task: dict[str, Any], score: str, tie: float) -> float | None:
    """Spearman's, over the lines that freeze something; accuracies at most `tie` apart share their place.

    Returns:
        None if all accuracies share one place.
    """
    lines = task["lines"][1:]
    accuracies = np.array([line["accuracy"] for line in lines])
    apart = accuracies[:, None] - accuracies[None]
    places = (np.sign(apart) * (np.abs(apart) > tie)).sum(1)  # ranks, but for a factor and an offset, if tie is 0
    return None if not places.any() else _pearson(rankdata([line[score] for line in lines]), places)


def with_noise(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks of one network, with twice the standard error of a difference of two lines, from differences of seeds."""
    repeated = [line["by_seed"] for task in tasks for line in task["lines"] if len(line["by_seed"]) > 1]
    spread = fmean(variance(values) for values in repeated) if repeated else 0.0
    return [{**task, "noise": 2 * (2 * spread / len(task["lines"][-1]["by_seed"])) ** 0.5} for task in tasks]


def _pearson(one: Any, other: Any) -> float:
    """0 if one of both does not vary."""
    one, other = (np.asarray(values, np.float64) - np.mean(values) for values in (one, other))
    scale = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / scale) if scale else 0.0


def best_depth(task: dict[str, Any]) -> float:
    """The deepest line at most one point behind the best, as a share of all lines: 0 trains everything."""
    top = max(line["accuracy"] for line in task["lines"])
    deepest = max(at for at, line in enumerate(task["lines"]) if line["accuracy"] >= top - NEAR)
    return deepest / (len(task["lines"]) - 1)


def is_right(task: dict[str, Any], choice: int | None = None) -> bool:
    """True if the choice, a place among the lines, is one line beside the best, or one point behind it."""
    values = [line["accuracy"] for line in task["lines"]]
    best = max(range(len(values)), key=lambda at: values[at])
    return abs((_chosen_place(task) if choice is None else choice) - best) <= 1 or behind(task, choice) <= NEAR


def behind(task: dict[str, Any], choice: int | None = None) -> float:
    """By how much the accuracy at the chosen line is below that at the best one."""
    values = [line["accuracy"] for line in task["lines"]]
    return max(values) - values[_chosen_place(task) if choice is None else choice]


def _chosen_place(task: dict[str, Any]) -> int:
    return [line["through"] for line in task["lines"]].index(task["best"])


def _by_probe(task: dict[str, Any]) -> int:
    """The deepest line whose probe is within one standard error of the best probe."""
    probes = [(-1.0 if line["probe"] is None else line["probe"]) for line in task["lines"]]
    limit = max(probes) - (task["lines"][probes.index(max(probes))]["probe_error"] or 0.0)
    return max(at for at, probe in enumerate(probes) if probe >= limit)


_RULES: dict[str, Callable[[dict[str, Any]], int]] = {
    "`choose_depth`": _chosen_place, "deepest probe within one standard error": _by_probe,
    "always train everything": lambda task: 0, "always the middle line": lambda task: len(task["lines"]) // 2,
    "always the output layer only": lambda task: len(task["lines"]) - 1,
}  # fmt: skip


def _rules(groups: dict[str, list[dict[str, Any]]]) -> Table:
    """Right choices, and those within the noise, by rules that cost less."""
    rows: list[tuple[str, ...]] = []
    for name, rule in _RULES.items():
        counts = [f"{sum(is_right(task, rule(task)) for task in tasks)}, "
                  f"{sum(behind(task, rule(task)) <= task['noise'] for task in tasks)} of {len(tasks)}"
                  for tasks in groups.values()]  # fmt: skip
        rows.append((name, *counts))
    return Table("Right, and behind the best by less than the noise, beside simpler rules", ("rule", *groups),
                 tuple(rows))  # fmt: skip


def _verdict(values: list[float | None], limit: float, *, above: bool = True) -> str:
    known = [value for value in values if value is not None]
    hits = [(value >= limit) if above else (value <= limit) for value in known]
    return RIGHT if all(hits) else PARTLY if any(hits) else WRONG


def _claims(figures: dict[str, Any]) -> list[Claim]:
    groups = list(figures.values())

    def told(values: list[float | None]) -> str:
        parts = zip(figures, values, strict=True)
        return "; ".join(f"{name} {f'{value:.2f}' if value is not None else 'not run'}" for name, value in parts)

    def of(key: str, score: str | None = None) -> list[float | None]:
        return [group[key] if score is None else group[key][score] for group in groups]

    def ranks(score: str) -> str:
        return f"as they are: {told(of('spearman', score))}. Tied by noise: {told(of('spearman_tied', score))}"

    return [
        Claim("The more similar the tasks are, the more layers you want to reuse.",
              f"correlation of distance with the best depth: {told(of('depth_by_distance'))}",
              _verdict(of("depth_by_distance"), -0.5, above=False)),
        Claim("`choose_depth` is within one line, or one point, of the best in at least 90% of the tasks.",
              f"share of tasks: {told(of('right'))}; behind the best by less than the noise: "
              f"{told(of('within_noise'))}; mean distance: {told(of('behind'))}", _verdict(of("right"), 0.9)),
        Claim("The linear probe ranks lines as fine-tuning does (Spearman 0.8 or more).",
              ranks("probe"), _verdict(of("spearman", "probe"), 0.8)),
        Claim("What features at a line and above it explain together (`reachable`) ranks lines so.",
              ranks("reachable"), _verdict(of("spearman", "reachable") + of("spearman_tied", "reachable"), 0.8)),
        Claim("Choosing costs at most 10% of fine-tuning once at all lines.",
              f"share of processor time, without a cache: {told(of('cost'))}",
              _verdict(of("cost"), 0.1, above=False)),
    ]  # fmt: skip


def _tables(groups: dict[str, list[dict[str, Any]]]) -> list[Table]:
    tables = [_rules(groups)]
    for group, tasks in groups.items():
        rows: list[tuple[str, ...]] = []
        for task in tasks:
            best = max(task["lines"], key=lambda line: line["accuracy"])
            chosen = next(line for line in task["lines"] if line["through"] == task["best"])
            rows.append((task["task"], str(task["distance"]), f"{best['through']} ({best['accuracy']:.3f})",
                         f"{chosen['through']} ({chosen['accuracy']:.3f})", "yes" if is_right(task) else "no",
                         f"{behind(task):.3f} of {task['noise']:.3f}",
                         f"{task['choose_s']:.1f} s", f"{task['all_s']:.0f} s"))  # fmt: skip
        tables.append(Table(f"{group.capitalize()}: chosen and best", ("task", "distance", "best line", "chosen line",
                            "right", "behind, noise", "choosing", "all lines once"), tuple(rows)))  # fmt: skip
        found = summary(tasks)
        told = [("as they are", found["spearman"]), ("tied by noise", found["spearman_tied"])]
        tables.append(Table(f"{group.capitalize()}: correlation with the fine-tuned accuracy", ("accuracies", *SCORES),
                            tuple((name, *("" if v is None else f"{v:.2f}" for v in own.values()))
                                  for name, own in told)))  # fmt: skip
        tables += [_of_task(task) for task in tasks]
    return tables


def _of_task(task: dict[str, Any]) -> Table:
    names = ("reachable", "reachable_error", "probe", "knn", "logme", "energy")
    head = ("line", "fine-tuned", "by seed", "reach", "±", "probe", "5-NN", "LogME", "energy")
    return Table(f"{task['task']} (noise {task['noise']:.3f})", head, tuple(
        (line["through"], f"{line['accuracy']:.3f}", " ".join(f"{one:.3f}" for one in line["by_seed"]),
         *("" if line[name] is None else f"{line[name]:.3f}" for name in names))
        for line in task["lines"]))  # fmt: skip


def _picture(groups: dict[str, list[dict[str, Any]]]) -> Any:
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.4))
    for axis, (name, tasks) in zip(axes.flat, groups.items(), strict=False):
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
