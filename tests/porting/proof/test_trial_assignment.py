from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof import trial_assignment
from frostline.porting.proof.trial_assignment import TrialAssignment
from helpers_porting import numbers, source_of


class Branches(nn.Module):
    """Three equal layers that are summed, and a head."""

    def __init__(self):
        super().__init__()
        self.x, self.y, self.z = (nn.Linear(3, 4, bias=False) for _ in range(3))
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x):
        return self.head(self.x(x) + self.y(x) + self.z(x))


def case(num_units=3, *, last=None):
    """A module, its plan with one open group, and how often each array was read."""
    kernels = {name: numbers(3, 4) + at for at, name in enumerate("abc"[:num_units])}
    if last is not None:
        kernels["c"] = last
    units = {name: {"kernel": one} for name, one in kernels.items()}
    source = source_of("keras", {**units, "head": {"kernel": numbers(4, 2)}})
    reads = Counter()

    def counted(tensor):
        return replace(tensor, load=lambda: reads.update([tensor.unit]) or tensor.load())

    model = Branches()
    source = replace(source, tensors=tuple(counted(tensor) for tensor in source.tensors))
    plan = make_plan(source, "file", model, partial=num_units < 3, hints={"head": "head"})
    assert len(plan.opened) == 1
    return model, plan, kernels, reads


def test_each_array_is_read_once_while_the_assignments_change():
    model, plan, kernels, reads = case()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = TrialAssignment(plan, model)
    with trial.undone():
        for way in plan.opened[0].ways():
            trial.put(0, way)
            for step in way:
                assert torch.equal(getattr(model, step.target.name).weight, kernels[step.source.name].T)
        assert torch.equal(model.head.weight, numbers(4, 2).T)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert reads == {"a": 3, "b": 3, "c": 3, "head": 1}  # of 6 assignments: once for each layer that it may become


def test_values_beyond_the_bound_are_read_again(monkeypatch):
    monkeypatch.setattr(trial_assignment, "_KEPT_BYTES", 100)  # two of 48 bytes
    model, plan, kernels, reads = case()
    trial = TrialAssignment(plan, model)
    with trial.undone():
        for way in (*plan.opened[0].ways(), *plan.opened[0].ways()):
            trial.put_all([way])
            assert all(
                torch.equal(getattr(model, step.target.name).weight, kernels[step.source.name].T) for step in way
            )
    assert reads["a"] > 3


def test_a_value_that_is_refused_leaves_the_module_as_it_was():
    model, plan, _kernels, _reads = case(last=torch.full((3, 4), float("nan")))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = TrialAssignment(plan, model)
    with pytest.raises(PortError, match="NaN, infinite"), trial.undone():
        trial.put(0, next(iter(plan.opened[0].ways())))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_layer_that_an_assignment_leaves_out_holds_its_own_weights_again():
    model, plan, _kernels, _reads = case()
    own = model.z.weight.clone()
    trial = TrialAssignment(plan, model)
    with trial.undone():
        way = next(iter(plan.opened[0].ways()))
        trial.put(0, way)
        assert not torch.equal(model.z.weight, own)
        trial.put(0, tuple(step for step in way if step.target.name != "z"))
        assert torch.equal(model.z.weight, own)
