import math

import pytest
from torch.nn import functional as F

from frostline.health import Patient, Score
from frostline.recipes.examination.running import Runner, watched
from helpers_health import mlp, sgd, task


def test_the_rules_are_asked_again_with_the_steps_that_were_taken():
    model = mlp()
    one = Runner(Patient(model, sgd(model)), steps=7)
    watched(one, task(12), F.cross_entropy, samples=3, families=set())
    assert one.steps == 19


@pytest.mark.parametrize(("families", "outcomes"), [(set(), {"issue", "tip"}), ({"input_scale"}, {"not applicable"})])
def test_scaled_inputs_are_not_judged_where_the_model_scales_them(families, outcomes):
    model = mlp()
    one = Runner(Patient(model, sgd(model, lr=1e-6)))
    data = [(300 * inputs, target) for inputs, target in task(12)]
    said = watched(one, data, F.cross_entropy, samples=3, families=families)
    found = {f.outcome for f in (*said.findings, *said.passed) if f.code == "FL501"}
    assert found
    assert found <= outcomes


def test_a_score_that_is_not_there_is_the_worst():
    assert Runner(None).loss == math.inf
    assert Runner(None, scores={3: Score(0.5, math.nan)}).loss == math.inf
    assert Runner(None, scores={3: Score(0.5, 2.0), 6: Score(0.5, 1.0)}).loss == 1.0
