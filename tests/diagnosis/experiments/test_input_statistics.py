import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Evidence, Patient, judge
from frostline.diagnosis.experiments.input_statistics import facts_of_inputs
from frostline.diagnosis.experiments.observer import Observer, observe
from helpers_health import FEATURES, SumOfInputs, mlp, sgd, task


def seen(model, data=None, **options):
    data = data or task()
    return observe(Patient(model, sgd(model, **options)), data, data[-8:], F.cross_entropy)


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


def several(**inputs):
    """Facts of the inputs where a model takes these."""
    data = [(dict(inputs), torch.zeros(16))] * 4
    return facts_of_inputs(Evidence(), data)


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
    facts = facts_of_inputs(Evidence(), data)
    assert facts.largest == 32.0  # of 512 samples
    assert facts.outlier == pytest.approx(40 / 20)  # of all
    ragged = [(inputs if at % 2 else torch.cat([inputs, inputs], 1), None) for at, (inputs, _) in enumerate(data)]
    assert facts_of_inputs(Evidence(), ragged).outlier == pytest.approx(40 / 20)


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
