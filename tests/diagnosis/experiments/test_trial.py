import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.core.norms import gradient_norms
from frostline.diagnosis import Course, Monitor, Patient, train
from frostline.diagnosis.experiments import trial
from helpers_health import mlp, sgd, task


def patient(model=None, **options):
    model = model or mlp()
    return Patient(model, sgd(model), **options)


def test_a_twin_shares_nothing_and_trains_the_same():
    one = patient()
    train(one, task(3), F.cross_entropy)
    other = one.copy()
    assert {id(p) for p in one.parameters}.isdisjoint(id(p) for p in other.parameters)
    assert [id(p) for p in other.parameters] == [id(p) for p in other.model.parameters()]
    assert train(one, task(5), F.cross_entropy) == train(other, task(5), F.cross_entropy)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters, other.parameters, strict=True))


def test_noise_is_the_same_in_every_trial_and_gone_afterwards():
    state = torch.get_rng_state()
    runs = []
    for _ in range(2):
        torch.manual_seed(3)
        runs.append(train(patient(nn.Sequential(mlp(), nn.Dropout(0.2))), task(4), F.cross_entropy))
    assert runs[0] == runs[1]
    torch.set_rng_state(state)
    train(patient(), task(2), F.cross_entropy)
    torch.set_rng_state(state)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_clip_leaves_steps_out():
    data = task(3)
    data[1][0][0] = float("nan")
    one = patient(clip=fl.remedies.clip_by_norm(1.0))
    assert len(train(one, data, F.cross_entropy).norms) == 3
    assert all(torch.isfinite(p).all() for p in one.parameters)


def test_a_monitor_is_told_every_loss():
    one = patient()
    with Monitor(one.model, one.optimizer, every=1) as monitor:
        train(one, task(5), F.cross_entropy, monitor=monitor)
    assert [record.loss is not None for record in monitor.records] == [True] * 5


def test_the_norm_of_a_step_is_that_of_all_its_gradients():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts, self.at = nn.ModuleList([mlp(), mlp()]), 0

        def forward(self, inputs):
            self.at += 1  # the second branch has no gradient in the first two steps
            return sum(part(inputs) for part in self.parts[: 1 if self.at < 3 else 2])

    one, norms = patient(Branches()), []
    one.optimizer.register_step_pre_hook(lambda *_: norms.append(float(gradient_norms(one.parameters).total)))
    assert train(one, task(5), F.cross_entropy).norms == tuple(norms)


def test_norms_of_many_steps_do_not_pile_up(monkeypatch):
    waiting = []

    class Seen(trial._Norms):
        def add(self, norms):
            super().add(norms)
            waiting.append(len(self._unread))

    whole = train(patient(), task(23), F.cross_entropy).norms
    monkeypatch.setattr(trial, "_Norms", Seen)
    monkeypatch.setattr(trial, "_UNREAD", 5)
    assert train(patient(), task(23), F.cross_entropy).norms == whole
    assert len(whole) == 23
    assert max(waiting) < 5


def test_no_data_no_norms():
    assert train(patient(), [], F.cross_entropy) == Course((), 0)


def test_steps_that_are_not_finite_are_left_out_and_counted():
    data = task(4)
    data[1][0][0] = float("nan")  # the input
    one, calls = patient(), []

    def loss_fn(output, target):
        calls.append(None)
        return F.cross_entropy(output, target) * (float("inf") if len(calls) == 3 else 1.0)

    course = train(one, data, loss_fn, skips_nonfinite=True)
    assert course.num_skipped == 2
    assert all(torch.isfinite(p).all() for p in one.parameters)


def test_what_cannot_be_trained_on_is_said():
    with pytest.raises(fl.DataError, match="The loss is not a scalar"):
        train(patient(), task(1), lambda out, y: F.cross_entropy(out, y, reduction="none"))
    with pytest.raises(fl.DataError, match="does not depend on any trainable parameter: backward cannot run"):
        train(patient(), task(1), lambda out, y: F.cross_entropy(out.detach(), y))


def test_what_cannot_be_copied_is_said():
    model = mlp()
    model.outputs = [model(torch.randn(2, 12))]  # has a history
    with pytest.raises(fl.DataError, match="The model cannot be copied, so nothing can be tried on it"):
        patient(model).copy()


def test_a_training_can_be_broken_off_by_a_loss_that_is_not_finite():
    data = task(6)
    data[3][0][0] = float("nan")
    course = train(patient(), data, F.cross_entropy, stops_nonfinite=True)
    assert len(course.losses) == 4
    assert not course.is_whole
    assert train(patient(), task(6), F.cross_entropy, stops_nonfinite=True).is_whole


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_a_loss_that_is_finite_with_a_gradient_that_is_not_is_left_out(kind):
    model = mlp().to(kind)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    data = [(inputs.to(kind), target) for inputs, target in task(2)]

    def loss_fn(output, target):
        return (output * 0.0).sum().sqrt()  # the slope of a root at zero

    assert train(Patient(model, sgd(model)), data, loss_fn, skips_nonfinite=True).num_skipped == 2
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_masks_of_infinity_are_no_reason_to_leave_out_steps_and_nan_is():
    data = [(inputs.clone(), target) for inputs, target in task(10)]
    for at in range(8):
        data[at][0][0, 0] = -math.inf if at < 6 else math.nan
    seen = train(Patient(model := Masked(), sgd(model)), data, F.cross_entropy, skips_inputs=True)
    assert seen.num_skipped == 2


class Masked(nn.Module):
    """Takes infinity for nothing."""

    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, inputs):
        return self.body(inputs.nan_to_num(0.0, 0.0, 0.0))


def test_accumulated_steps_take_the_mean_of_their_batches():
    model, data = mlp(), task(5)
    one = patient(model, accumulation=2)
    losses, twin = [], Patient(copy.deepcopy(model), None)
    twin.optimizer = sgd(twin.model)
    course = train(one, data, F.cross_entropy, stops_nonfinite=True)
    for part in (data[:2], data[2:4], data[4:]):
        twin.optimizer.zero_grad()
        loss = sum(F.cross_entropy(twin.model(x), y) for x, y in part) / len(part)
        loss.backward()
        twin.optimizer.step()
        losses.append(float(loss.detach()))
    assert course.losses == pytest.approx(losses)
    assert len(course.norms) == 3
    for ours, theirs in zip(model.parameters(), twin.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_of_accumulated_steps_all_their_batches_are_left_out():
    data, calls = task(6), []

    def loss_fn(output, target):
        calls.append(1)
        return F.cross_entropy(output, target) * (math.inf if len(calls) == 3 else 1.0)

    course = train(patient(accumulation=2), data, loss_fn, skips_nonfinite=True)
    assert course.num_skipped == 2
    assert [math.isfinite(loss) for loss in course.losses] == [True, False, True]


def test_gradients_are_gone_afterwards_and_norms_are_asked_for():
    one = patient()
    assert train(one, task(4), F.cross_entropy, measures=False).norms == ()
    assert all(parameter.grad is None for parameter in one.parameters)
    assert not one.optimizer._optimizer_step_pre_hooks
    train(one, task(4), F.cross_entropy)
    assert not one.optimizer._optimizer_step_pre_hooks


def test_losses_are_kept_only_where_they_are_looked_at():
    assert train(patient(), task(3), F.cross_entropy).losses == ()
    assert len(train(patient(), task(3), F.cross_entropy, skips_nonfinite=True).losses) == 3


def test_a_training_that_is_broken_off_keeps_what_it_has_seen():
    data = task(6)
    data[3][0][0] = float("nan")
    course = train(patient(), data, F.cross_entropy, stops_nonfinite=True)
    assert math.isnan(course.losses[-1])
    assert all(map(math.isfinite, course.losses[:-1]))
    assert len(course.norms) == 3


@pytest.mark.parametrize(("count", "skipped"), [(4, 4), (5, 0)])
def test_masks_in_most_inputs_are_what_the_data_are_like(count, skipped):
    data = [(inputs.clone(), target) for inputs, target in task(9)]
    for inputs, _ in data[:count]:
        inputs[0, 0] = -math.inf
    model = Masked()
    assert train(Patient(model, sgd(model)), data, F.cross_entropy, skips_inputs=True).num_skipped == skipped


def test_a_scaler_scales_and_steps():
    class Scaler:
        def __init__(self):
            self.calls = []

        def scale(self, loss):
            self.calls.append("scale")
            return loss * 1024

        def unscale_(self, optimizer):
            self.calls.append("unscale")
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad /= 1024

        def step(self, optimizer):
            self.calls.append("step")
            optimizer.step()

        def update(self):
            self.calls.append("update")

    plain = patient()
    expected = train(plain, task(2), F.cross_entropy)
    one = patient(scaler=Scaler())
    assert train(one, task(2), F.cross_entropy).norms == pytest.approx(expected.norms)
    assert one.scaler.calls == ["scale", "unscale", "step", "update"] * 2
    for ours, theirs in zip(one.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("change", [lambda g: g.to_sparse(), lambda g: g.double()], ids=["sparse", "double"])
def test_gradients_of_other_kinds_are_looked_at_too(change):
    parameter = nn.Parameter(torch.ones(3, dtype=change(torch.ones(3)).dtype))
    for value, is_finite in ((1.0, True), (math.inf, False), (math.nan, False)):
        parameter.grad = change(torch.full((3,), value))
        assert trial._is_gradient_finite([parameter, nn.Parameter(torch.ones(1))]) is is_finite
    assert trial._is_gradient_finite([])


def test_a_head_that_runs_the_models_own_forward_is_copied_with_its_model():
    model = nn.Sequential(nn.Linear(4, 4), ByRow())
    fl.freeze(model, modules=[model[0]])
    batch, target = torch.randn(6, 4), torch.arange(6) % 2
    split = fl.split(model, batch)
    features, weight = split.extract(batch), model[1].out.weight
    before = weight.detach().clone()
    twin = Patient(split.head, torch.optim.SGD([weight, model[1].out.bias], lr=1.0)).copy()
    F.cross_entropy(twin.model(*features), target).backward()
    twin.optimizer.step()
    assert weight.grad is None
    assert torch.equal(weight, before)
    assert not torch.allclose(twin.model(*features), split.head(*features))


class ByRow(nn.Module):
    """One call for each sample, so that no graph holds for all batch sizes."""

    def __init__(self):
        super().__init__()
        self.base, self.out = nn.Linear(4, 4).requires_grad_(False), nn.Linear(4, 2)

    def forward(self, x):
        return torch.stack([self.out(row) for row in self.base(x)])
