import math

import pytest
from torch.nn import functional as F

from frostline.diagnosis import Evidence, Monitor, Patient, Score
from frostline.diagnosis.experiments.runner import Runner, shifted, watched
from frostline.diagnosis.rules.records import OutlierFacts
from helpers_health import losses, mlp, record, sgd, task


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


def test_steps_are_counted_from_the_beginning_of_the_training():
    outliers = OutlierFacts("input", 300.0, 0.01, 3, (5,))
    evidence = Evidence(records=(record(0), record(4)), losses=losses(2.0, 1.0), outliers=outliers)
    later = shifted(evidence, 10)
    assert [one.step for one in later.records] == [10, 14]
    assert later.losses == ((10, 2.0), (11, 1.0))
    assert (later.outliers.step, later.outliers.samples) == (13, (5,))
    assert shifted(Evidence(), 10).outliers is None


@pytest.mark.parametrize(("steps", "samples", "seen"), [(12, 3, 3), (13, 3, 3), (12, 100, 12), (1, 2, 1)])
def test_as_many_steps_are_looked_at_as_are_asked_for(steps, samples, seen):
    model = mlp()
    one, passed = Runner(Patient(model, sgd(model))), []
    original = Monitor.__exit__

    def counted(self, *rest):
        passed.append(self.samples[0])
        return original(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Monitor, "__exit__", counted)
        watched(one, task(steps), F.cross_entropy, samples=samples, families=set())
    assert passed == [seen]


def test_steps_that_are_left_out_are_added_up():
    model = mlp()
    one = Runner(Patient(model, sgd(model)), num_skipped=2)
    data = task(6)
    data[2][0][0] = math.nan
    watched(one, data, F.cross_entropy, samples=3, families=set())
    assert (one.num_skipped, one.steps) == (3, 6)
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_the_last_score_counts():
    assert math.isnan(Runner(None).score.loss)
    scores = {3: Score(0.5, 1.0), 6: Score(0.7, 2.0)}
    assert Runner(None, scores=scores).score == Score(0.7, 2.0)
    assert not Runner(None).is_due
    assert Runner(None).first_loss == math.inf
