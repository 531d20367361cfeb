"""The loop over epochs, with heads that only count."""

import math

import pytest
import torch

import frostline as fl
from frostline.selection import SweepPlan, run_sweep
from frostline.selection.heads.contract import Heads
from helpers_sweep import settings


class Scripted(Heads):
    """Heads whose validation losses are written down, by number of the head and epoch."""

    way = "looped"

    def __init__(self, own, losses):
        super().__init__(own)
        self.losses, self.epoch, self.seen = losses, 0, []

    def step(self, features, target):
        self.epoch = features
        self.seen.append((features, target, tuple(self.numbers)))
        return torch.ones(len(self.settings))

    def evaluate(self, features, target):
        values = [self.losses[number][self.epoch - 1] for number in self.numbers]
        return torch.tensor(values), [self.losses[number][self.epoch - 1] for number in self.numbers]

    def state(self, at):
        return {"epoch": torch.tensor(self.epoch)}

    def keep(self, places):
        self.settings = [self.settings[at] for at in places]


class Rows:
    epoch = 0

    def __iter__(self):
        return iter([(self.epoch + 1, 3), (self.epoch + 1, 1)])

    def __len__(self):
        return 2


class Judge:
    def __init__(self, value):
        self.value, self.outputs = value, []

    def add(self, output, target):
        self.outputs.append(output)

    def result(self):
        return {"negative": self.value if self.value is not None else -self.outputs[-1]}


def run(losses, *, factor=None, epochs=None, families=1, metric=None, progress=False, counted=lambda target: target):
    own = settings([{} for _ in losses])
    parts = [Scripted(own[at::families], losses) for at in range(families)]
    judge = (lambda: Judge(metric)) if metric != "none" else (lambda: type("No", (), {
        "add": lambda *_: None, "result": lambda *_: {}})())  # fmt: skip
    plan = SweepPlan(epochs or len(losses[0]), factor, counted, judge, progress)
    return run_sweep(parts, Rows(), Rows(), plan), parts


def test_every_head_keeps_its_best_epoch():
    courses, (heads,) = run([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]])
    assert [course.best_epoch for course in courses] == [2, 1, 1]
    assert [int(course.state["epoch"]) for course in courses] == [2, 1, 1]
    assert [course.score for course in courses] == [-1.0, -1.0, -2.0]
    assert [epoch.val_loss for epoch in courses[0].history] == [3.0, 1.0, 2.0]
    assert courses[0].history[0].train_loss == 1.0
    assert len(heads.seen) == 6
    assert sorted(courses, key=lambda c: c.rank_key)[0] is courses[0]


def test_without_a_metric_the_loss_ranks():
    courses, _ = run([[3.0, 1.0], [0.5, 2.0]], metric="none")
    assert [(course.score, course.best_epoch) for course in courses] == [(-1.0, 2), (-0.5, 1)]
    assert courses[0].history[0].val_metrics is None


def test_halving_drops_the_worst_at_every_rung():
    losses = [[float(at)] * 8 for at in range(8)]
    courses, parts = run(losses, factor=2, families=2)
    assert [len(course.history) for course in courses] == [8, 4, 2, 2, 1, 1, 1, 1]
    assert [course.outcome for course in courses] == ["trained"] + ["stopped"] * 7
    assert parts[1].numbers == [1]


def test_a_head_that_diverges_is_dropped_and_ranked_last():
    courses, (heads,) = run([[1.0, math.nan, 1.0], [9.0, 9.0, 9.0]])
    assert [course.outcome for course in courses] == ["diverged", "trained"]
    assert len(courses[0].history) == 2
    assert heads.numbers == [1]
    assert min(courses, key=lambda c: c.rank_key).setting.number == 1


def test_it_ends_when_nobody_is_left():
    courses, (heads,) = run([[math.inf, 1.0], [math.nan, 1.0]])
    assert [course.outcome for course in courses] == ["diverged"] * 2
    assert [course.best_epoch for course in courses] == [0, 0]
    assert len(heads.seen) == 2


def test_a_metric_that_is_no_number_is_told():
    with pytest.raises(fl.DataError, match="The metric 'negative' is not finite on the validation rows"):
        run([[1.0]], metric=math.nan)


def test_rows_without_labels_are_told():
    with pytest.raises(fl.DataError, match="No row of the training rows has a label"):
        run([[1.0]], counted=lambda target: 0)


def test_progress_is_a_line_for_each_epoch(capsys):
    run([[3.0, 1.0], [2.0, math.nan]], progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("epoch 1/2  2 heads  best #1 (defaults) -2.0000")
    assert lines[1].startswith("epoch 2/2  2 heads  best #0")
