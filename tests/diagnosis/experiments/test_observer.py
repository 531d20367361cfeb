import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis import Evidence, Patient, judge
from frostline.diagnosis.experiments import observer as observing
from frostline.diagnosis.experiments.observer import Observer, observe
from helpers_health import CLASSES, FEATURES, SumOfInputs, mlp, sgd, task


def normed(momentum=0.1):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16, momentum=momentum), nn.ReLU(),
                         nn.Linear(16, CLASSES))  # fmt: skip


def seen(model, data=None, **options):
    data = data or task()
    return observe(Patient(model, sgd(model, **options)), data, data[-8:], F.cross_entropy)


def test_everything_is_gathered():
    observation = seen(normed())
    evidence = observation.evidence
    assert len(evidence.records) == len(evidence.gradient_norms) == len(evidence.losses) == 40
    assert evidence.loss.kind == "classes"
    assert evidence.optimizer.lr == 0.05
    assert evidence.inputs.widest == pytest.approx(1.5, abs=1)
    assert evidence.norms.layers == ("1",)
    assert evidence.norms.smallest_batch == 16
    assert observation.score.share > 0.8
    assert evidence.has_accumulated is False


def test_statistics_that_lag_are_measured():
    far = [(5 * inputs + 20, target) for inputs, target in task()]
    facts = seen(normed(momentum=1e-3), far, lr=1e-3).evidence.norms
    assert facts.momentum == 1e-3
    assert facts.eval_loss > facts.exact_loss + 0.2
    assert facts.exact_loss == pytest.approx(facts.train_loss, abs=0.1)


def test_a_frozen_norm_that_moves_is_named():
    model = normed()
    model[1].requires_grad_(False)
    assert seen(model).evidence.norms.moving_in_frozen == ("1",)
    model[1].eval()
    model[1].train = lambda mode=True: model[1]  # as frostline.freeze pins it
    assert seen(model).evidence.norms is None


def test_odd_rows_between_samples_are_found():
    data = task(200)
    data[7][0][5, 2] = math.nan  # every third step is sampled
    evidence = seen(mlp(), data).evidence
    assert evidence.records[-1].step == 7
    assert evidence.records[-1].nonfinite_samples == (5,)
    assert "FL502" in {finding.code for finding in judge(evidence).findings}


def test_a_model_without_batchnorm_has_no_facts_of_it():
    assert seen(mlp()).evidence.norms is None


def values(loss_fn, odd):
    data = [(inputs, inputs[:, :1].clone()) for inputs, _ in task()]
    data[7][1][odd] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    return judge(observe(Patient(model, sgd(model)), data, data[-8:], loss_fn).evidence)


def test_targets_that_are_no_numbers_are_named():
    found = [finding for finding in values(F.mse_loss, 5).findings if finding.code == "FL502"]
    assert [finding.layer for finding in found] == ["target"]
    assert "step 7" in found[0].why


def test_targets_that_the_loss_leaves_out_are_no_fault():
    def masked(output, target):
        known = target.isfinite()
        return F.mse_loss(output[known], target[known])

    assert "FL502" not in {finding.code for finding in values(masked, 5).findings}


def test_the_loss_is_asked_with_rows_that_are_numbers():
    data = [(inputs, inputs[:, :1].clone()) for inputs, _ in task()]
    data[0][1][3] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    assert observe(Patient(model, sgd(model)), data, data[-8:], F.mse_loss).evidence.loss.prefers_right


def quiet(share):
    """Data of which this share of the rows is a thousand times smaller."""
    data = task()
    for inputs, _ in data:
        inputs[: round(share * len(inputs))] *= 1e-3
    return data


def test_the_scale_is_that_of_all_rows_where_many_are_quiet():
    evidence = seen(mlp(), quiet(0.55)).evidence
    assert evidence.inputs.widest > 0.5
    assert "FL501" not in {finding.code for finding in judge(evidence).findings}


def test_the_scale_is_that_of_usual_rows_where_few_are_far_out():
    data = task()
    data[3][0][5] *= 1e4
    assert seen(mlp(), data, lr=1e-3).evidence.inputs.widest < 5


def masked(output, target):
    known = target.isfinite()
    return F.mse_loss(output[known], target[known])


def diverging(change, loss_fn=masked):
    """Evidence of a run that blows up at a learning rate of 50 within some steps, on data that were changed."""
    data = [(inputs, inputs[:, :3].clone()) for inputs, _ in task()]
    change(data)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 3))
    return observe(Patient(model, sgd(model, lr=50.0)), data, data[-8:], loss_fn).evidence


def mask_late(data):
    data[30][1][:, 0] = math.nan


def mask_all(data):
    for _, target in data:
        target[::3, 1] = math.nan


def input_late(data):
    data[30][0][3, 2] = math.nan


@pytest.mark.parametrize("change", [mask_late, mask_all, input_late])
def test_odd_rows_are_not_blamed_for_what_came_before_them(change):
    evidence = diverging(change)
    first = min(step for step, loss in evidence.losses if not math.isfinite(loss))
    assert 0 < first < 30
    odd = [record for record in evidence.records if record.nonfinite is not None]
    assert odd[0].nonfinite not in {"input", "target"}
    assert odd[0].step <= first
    assert len(evidence.records) == 40


def test_a_target_counts_where_the_loss_was_first_not_finite():
    def change(data):
        data[1][1][4] = data[30][1][5] = math.nan

    record = diverging(change, F.mse_loss).records[-1]
    assert (record.step, record.nonfinite, record.nonfinite_samples) == (1, "target", (4,))


def test_an_input_that_was_left_out_is_named_before_a_later_loss():
    data = [(inputs, inputs[:, :1].clone()) for inputs, _ in task()]
    data[4][0][2, 0] = data[9][1][7] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    with Observer(Patient(model, sgd(model)), data, F.mse_loss, every=3, skips_inputs=True) as observer:
        observer.train(20)
        record = observer.evidence.records[-1]
    assert observer.num_skipped == 1
    assert (record.step, record.nonfinite, record.nonfinite_samples) == (4, "input", (2,))


class Words(nn.Module):
    """Answers for words, and for numbers beside them."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rest = nn.Embedding(10, FEATURES), mlp()

    def forward(self, x, ids):
        return self.rest(x + self.embedding(ids))


def beside(order):
    """Two inputs in this order; one row of the floats is far out."""
    data = [({"x": inputs, "ids": torch.randint(10, (len(inputs),))}, target) for inputs, target in task()]
    data[7][0]["x"][3] *= 1e4
    return [({name: inputs[name] for name in order}, target) for inputs, target in data]


@pytest.mark.parametrize("order", [("x", "ids"), ("ids", "x")])
def test_rows_far_out_in_any_input_are_seen_while_it_trains(order):
    model = Words()
    with Observer(Patient(model, sgd(model)), beside(order), F.cross_entropy, every=4) as observer:
        observer.train(10)
        facts = observer.evidence.outliers
    assert (facts.what, facts.step, facts.samples) == ("input", 7, (3,))


def test_rows_far_out_in_a_second_float_input_are_seen():
    model = SumOfInputs()
    data = [((inputs, torch.randn_like(inputs)), target) for inputs, target in task()]
    data[7][0][1][3] *= 1e4
    with Observer(Patient(model, sgd(model)), data, F.cross_entropy, every=4) as observer:
        observer.train(10)
        assert observer.evidence.outliers.samples == (3,)


def test_all_the_data_are_looked_at_once(monkeypatch):
    calls = []
    monkeypatch.setattr(observing, "facts_of_outliers", calls.append)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Flatten(), nn.Linear(32, 3))
    data = [(torch.randint(10, (8, 4)), torch.randint(3, (8,))) for _ in range(20)]
    with Observer(Patient(model, sgd(model)), data, F.cross_entropy, every=4) as observer:
        for steps in (5, 10, 20):
            observer.train(steps)
            assert observer.evidence.inputs is None
    assert len(calls) == 1


def refusing(output, target):
    raise ValueError("only my own outputs")


@pytest.mark.parametrize(
    ("model", "loss_fn", "what"),
    [(nn.Linear(5, 3), F.cross_entropy, "model cannot be called"), (mlp(), F.nll_loss, None),
     (nn.Linear(FEATURES, 2), lambda out, y: F.cross_entropy(out, y + 1), "loss cannot be taken"),
     (nn.Linear(FEATURES, 2), refusing, "loss cannot be taken")],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_told_before_anything_is_trained(model, loss_fn, what):
    patient, data = Patient(model, sgd(model)), task(6)
    if what is None:
        assert observe(patient, data, data[-2:], loss_fn).evidence.losses
        return
    with pytest.raises(fl.DataError, match=what) as error:
        observe(patient, data, data[-2:], loss_fn)
    assert error.value.where == "batch 0, in evaluation mode"
    assert error.value.received.startswith("inputs float32 (16, 12), target int64 (16,); ")


def several(**inputs):
    """Facts of the inputs where a model takes these."""
    data = [(dict(inputs), torch.zeros(16))] * 4
    return observing._facts_of_inputs(Evidence(), data)


def test_of_several_inputs_the_oddest_is_told_by_its_name():
    x, far, ids = torch.randn(16, 4), 100 * torch.randn(16, 4), torch.randint(5, (16, 4))
    mask, time = (torch.randn(16, 4) > 0).float() * 1000, 1e6 * torch.rand(16, 1)
    assert several(a=x, b=far).name == "b"
    assert several(a=x, b=far).widest > 50
    assert several(a=x, ids=ids, mask=mask, time=time).name == "a"  # masks and times are no features
    assert several(ids=ids, a=far).name == "a"
    assert several(a=far).name == ""
    assert several(mask=mask, a=x).name == "mask"  # the first is always meant
    assert several(ids=ids) is None
    assert several(flat=torch.randn(16), a=x).name == "a"


def test_the_scale_is_that_of_many_batches():
    data = [(torch.full((16, 2), 1.0 + at) * torch.tensor([1.0, -1.0]), None) for at in range(40)]
    facts = observing._facts_of_inputs(Evidence(), data)
    assert facts.largest == 32.0  # of 512 samples
    assert facts.outlier == pytest.approx(40 / 20)  # of all
    ragged = [(inputs if at % 2 else torch.cat([inputs, inputs], 1), None) for at, (inputs, _) in enumerate(data)]
    assert observing._facts_of_inputs(Evidence(), ragged).outlier == pytest.approx(40 / 20)


@pytest.mark.parametrize("part", [0, 1])
def test_of_many_odd_rows_the_first_sixteen_are_told(part):
    data = [(inputs.repeat(3, 1), inputs.repeat(3, 1)[:, :1].clone()) for inputs, _ in task(10)]
    data[1][part][5:40] = math.nan
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 1))
    record = observe(Patient(model, sgd(model)), data, data[-2:], F.mse_loss).evidence.records[-1]
    assert (record.nonfinite, record.nonfinite_samples) == (["input", "target"][part], tuple(range(5, 21)))


def test_skill_is_what_is_saved_of_the_loss_or_gained_in_answers_whichever_is_more():
    observation = seen(mlp())
    assert observation.evidence.skill == max(observation.score.skill, observation.score.lead)
    assert observation.evidence.skill > 0.5
    assert observation.first_loss == observation.evidence.losses[0][1]
    assert observing.Observation(Evidence(), observation.score).first_loss == math.inf


def test_statistics_of_one_value_per_channel_and_of_images_are_counted():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 36, 3), nn.BatchNorm1d(3))
    data = [(torch.randn(4, 1, 8, 8), torch.randint(3, (4,))) for _ in range(4)]
    facts = observe(Patient(model, sgd(model)), data, data[-1:], F.cross_entropy).evidence.norms
    assert facts.layers == ("1", "4")
    assert facts.smallest_batch == 4
    without = nn.Sequential(nn.Linear(FEATURES, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    facts = seen(without).evidence.norms
    assert (facts.layers, facts.smallest_batch, facts.eval_loss) == (("1",), None, None)


def test_a_number_beside_the_rows_that_is_none_is_no_row():
    assert observing._odd_rows({"scale": torch.tensor(math.nan), "x": torch.ones(2, 2)}) is None
    assert observing._odd_rows({"scale": torch.tensor(math.nan), "x": torch.tensor([1.0, math.inf])}) == [1]
    assert observing._odd_rows({"ids": torch.arange(3)}) is None
