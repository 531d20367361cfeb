import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from frostline.core.records import CacheFigures, Epoch
from frostline.diagnosis import judge
from frostline.diagnosis.rules.records import Evidence
from frostline.recipes import course
from frostline.recipes.course import RunCourse
from frostline.recipes.phases import MovingLine, Phase
from frostline.recipes.training_setup import Ready
from frostline.training import Progress
from helpers_fit import D, data, fit

LINE = MovingLine(nn.Linear(1, 1), None, epochs=1, has_val=False)
FIGURES = CacheFigures(10, 10, 0, 100, "folder", 2, 0.1)


class Watching:
    def __init__(self, *diagnoses):
        self._left = list(diagnoses)

    def diagnosis(self, ready, history):
        return self._left.pop(0)


def course_of(watching):
    return RunCourse(LINE, 0, watching, is_verbose=False, fills=True)


def ran(course, number, epochs, progress, figures=FIGURES):
    ready = Ready(nn.Linear(1, 1), None, None, figures, 1.0, 2.0, 5.0)
    with course.of(Phase(number, 1, f"change {number}"), progress, lambda num_epochs, earlier: ready):
        progress.history += [Epoch(at, 0.0, None, None, 0.1, 0.0) for at in range(epochs)]


def test_phases_add_up():
    course, progress = course_of(None), Progress([], 0, None, {})
    ran(course, 1, 2, progress)
    ran(course, 2, 3, progress, replace(FIGURES, computed=4, reused=6, path="other"))
    ran(course, 3, 0, progress, None)  # nothing was left to do
    assert [(p.number, p.first_epoch, p.last_epoch) for p in course.phases] == [(1, 1, 2), (2, 3, 5)]
    assert (course.figures.computed, course.figures.reused, course.figures.path) == (14, 6, "other")
    timings = course.timings(0.0, 0.5)
    assert (timings.split_s, timings.fill_s, timings.heal_s) == (3.0, 6.0, 0.5)
    assert timings.uncached_s == pytest.approx(timings.epochs_s + 25.0)
    assert str(course.phases[1]) == "phase 2, epochs 3 to 5: change 2; 4 samples computed, 6 reused"
    assert str(replace(course.phases[0], change="", cache=None)).endswith("the line as it was; not cached")


def test_of_each_rule_the_most_severe_finding_of_all_phases_is_told():
    healthy = judge(Evidence())
    silent = healthy.not_judged[0]
    sick = replace(healthy, findings=(replace(silent, outcome="issue"),), not_judged=healthy.not_judged[1:])
    for order in ((healthy, sick), (sick, healthy)):
        course, progress = course_of(Watching(*order)), Progress([], 0, None, {})
        ran(course, 1, 1, progress)
        ran(course, 2, 1, progress)
        assert [(f.code, f.outcome) for f in course.diagnosis.findings] == [(silent.code, "issue")]
    one = course_of(Watching(sick))
    ran(one, 1, 1, Progress([], 0, None, {}))
    assert one.diagnosis is sick
    assert course_of(None).diagnosis is None


def trained(**changed):
    torch.manual_seed(1)
    layers = [nn.Sequential(nn.Linear(D if at == 0 else 8, 8), nn.ReLU()) for at in range(3)]
    model = nn.Sequential(*layers, nn.Linear(8, 2))
    options = {"freeze": "2", "thaw": {2: "2", 3: "1"}, "epochs": 4, "batch_size": 16, "monitor": False, **changed}
    return fit(model, val=data(20), **options)


def losses(result):
    return [(epoch.train_loss, epoch.val_loss) for epoch in result.history]


def test_a_phase_that_saves_less_than_a_split_costs_is_trained_without_a_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(course, "_SPLITS", 1e9)
    plain = losses(trained(cache=False))
    weighed = trained(out=tmp_path / "a", progress=True)
    assert np.array(losses(weighed)) == pytest.approx(np.array(plain), rel=1e-6)
    assert [phase.cache is not None for phase in weighed.phases] == [True, False, False]
    text = capsys.readouterr().err
    assert "phase 2, from epoch 2: thawed down to '2'; trained without a cache: the frozen part takes " in text
    assert "ms at most in all its epochs, and a split " in text
    monkeypatch.setattr(course, "_SPLITS", 0.0)
    assert all(phase.cache is not None for phase in trained(out=tmp_path / "b").phases)


class Killed(BaseException):
    pass


def killed_at(step):
    """A clip that ends the run at this step."""
    count = 0

    def clip(parameters):
        nonlocal count
        count += 1
        if count == step:
            raise Killed

    return clip


def measured(folder):
    return json.loads((folder / "checkpoint.json").read_text())["measured"]


def test_a_resumed_run_decides_as_the_run_before_it(tmp_path, monkeypatch):
    monkeypatch.setattr(course, "_SPLITS", 1e9)
    cache, half = tmp_path / "cache", tmp_path / "half"
    expected = trained(out=tmp_path / "whole", cache=cache, clip=killed_at(0))
    with pytest.raises(Killed):
        trained(out=half, cache=cache, clip=killed_at(8))  # in epoch 3 of 3 steps each
    noted = measured(half)
    assert noted
    result = trained(out=half, resume=half, cache=cache, clip=killed_at(0))
    assert losses(result) == losses(expected)
    assert measured(half) == noted
    assert [(phase.number, phase.cache) for phase in result.phases] == [(3, None)]
