import math

import pytest
import torch
from torch import nn

from frostline.diagnosis.monitor.gradients import Step, Weights
from frostline.diagnosis.monitor.hooks import Outputs, Watch
from frostline.diagnosis.monitor.overhead import Account
from frostline.diagnosis.monitor.sampling import Laboratory, Sample

MODEL = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
ORDER = {"0": 0, "1": 1, "2": 2}


def outputs_of(**values):
    found = Outputs()
    found.values = {name.lstrip("_"): torch.tensor([[value], [1.0]]) for name, value in values.items()}
    return found


def records_of(*outputs, has_gradient=False, batch=None):
    """Of one step each."""
    weights = Weights(Watch(MODEL, Account()).found)
    laboratory = Laboratory(Watch(MODEL, Account()), weights)
    samples = []
    for number, own in enumerate(outputs):
        step = Step(weights)
        if has_gradient:
            MODEL(torch.randn(5, 3) if batch is None else batch).sum().backward()
        step.before()
        MODEL.zero_grad()
        samples.append(Sample(number, own, step))
        laboratory.add(samples[-1])
    laboratory.measure()
    return [sample.record(ORDER) for sample in samples]


def test_a_record_is_plain_numbers_in_order():
    seen = outputs_of(_2=2.0, _0=0.5)
    seen.values["1"] = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    (made,) = records_of(seen, has_gradient=True)
    assert (made.step, made.loss, made.nonfinite) == (0, None, None)
    assert [sample.layer for sample in made.layers] == ["0", "1", "2"]
    assert made.layers[1].dead == 0.5
    assert made.layers[0].mean == 0.75
    assert made.layers[1].gradient_norm is None
    assert isinstance(made.gradient_norm, float)


def test_samples_that_are_measured_together_keep_their_own_numbers():
    made = records_of(*(outputs_of(_0=float(at)) for at in range(40)), has_gradient=True)
    assert [record.layers[0].mean for record in made] == pytest.approx([(at + 1) / 2 for at in range(40)])
    assert len({record.gradient_norm for record in made}) == 40
    both = records_of(outputs_of(_0=1.0), outputs_of(), outputs_of(_0=1.0, _2=3.0))
    assert [[s.mean for s in record.layers] for record in both] == [[1.0, None], [None, None], [1.0, 2.0]]


def test_the_first_place_that_is_not_finite():
    assert records_of(outputs_of(_2=math.nan, _0=1.0))[0].nonfinite == "2"
    assert records_of(outputs_of(_2=math.nan, _0=math.inf))[0].nonfinite == "0"
    seen = outputs_of(_0=math.nan)
    seen.input_sums = torch.tensor([0.0, math.nan, math.inf])
    (made,) = records_of(seen)
    assert (made.nonfinite, made.nonfinite_samples) == ("input", (1, 2))


def test_only_gradients_that_are_not_finite():
    (made,) = records_of(outputs_of(_0=1.0), has_gradient=True, batch=torch.full((5, 3), math.inf))
    assert made.nonfinite == "gradient"


def test_a_loss_may_come_after_the_numbers():
    weights = Weights(Watch(MODEL, Account()).found)
    sample = Sample(3, Outputs(), Step(weights))
    assert sample.record(ORDER).loss is None
    sample.loss = 1.5
    assert sample.record(ORDER).loss == pytest.approx(1.5)


def test_what_waits_is_bounded():
    laboratory = Laboratory(Watch(MODEL, Account()), weights := Weights(Watch(MODEL, Account()).found))
    for number in range(100):
        step = Step(weights)
        step.before()
        outputs = Outputs()
        outputs.values["0"] = torch.zeros(2**10, 300)
        laboratory.add(Sample(number, outputs, step))
        assert len(laboratory._waiting) < 4
