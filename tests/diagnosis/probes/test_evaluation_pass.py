"""A pass in evaluation mode leaves nothing behind, and an error of the model is a reason and no end."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis.probes.evaluation_pass import Probes, evaluation
from helpers_health import task


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.out, self.calls = nn.BatchNorm1d(12), nn.Linear(12, 3), 0

    def forward(self, inputs):
        self.calls += 1
        return self.out(F.dropout(self.norm(inputs), 0.5))


def test_modes_buffers_counters_and_noise_are_as_before():
    model = Counting().train()
    inputs = torch.randn(8, 12)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    mean = model.norm.running_mean.clone()
    with evaluation(model, seed=1):
        first = model(inputs)
        assert not model.training
    with evaluation(model, seed=1):
        assert torch.equal(first, model(inputs))
    assert (model.training, model.calls) == (True, 0)
    assert torch.equal(model.norm.running_mean, mean)
    assert torch.equal(torch.rand(1), expected)


def test_it_is_left_as_it_was_by_an_error_as_well():
    model = Counting().train()
    with pytest.raises(KeyError), evaluation(model):
        raise KeyError("x")
    assert model.training


class OwnError(Exception):
    pass


def raising():
    raise OwnError


def test_errors_of_the_model_become_reasons():
    probes = Probes()
    assert probes.run(("FL506",), lambda: 3, None) == 3
    assert probes.run(("FL506", "FL511"), lambda: [][1], "nothing") == "nothing"
    why = "a pass in evaluation mode ended with IndexError: list index out of range"
    assert probes.failed == [("FL506", why), ("FL511", why)]
    with pytest.raises(OwnError):  # no error of Python or torch
        probes.run(("FL506",), raising, None)


class Refusing(nn.Module):
    """Takes no batch in which the first row was exchanged for the last, as one probe does."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(12, 3)

    def forward(self, inputs):
        if not self.training and len(inputs) > 1 and torch.equal(inputs[0], inputs[-1]):
            raise ValueError("rows of one batch must differ")
        return self.out(inputs)


def test_a_checkup_lists_what_a_failed_pass_left_open_and_goes_on():
    torch.manual_seed(0)
    model = Refusing()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    diagnosis = fl.checkup(model, task(60), F.cross_entropy, optimizer, progress=False)
    (open_,) = [one for one in diagnosis.not_judged if one.code == "FL506"]
    assert "ended with ValueError: rows of one batch must differ." in open_.why
    assert not [one for one in diagnosis.findings if one.outcome == "issue"]
