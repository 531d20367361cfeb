from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import frostline as fl
from frostline.core.steps import check_dense, check_loss, check_reached, copied, is_optimizer, take_step


@pytest.mark.parametrize("bad", [None, 1.0, torch.ones(2)], ids=["nothing", "a float", "a vector"])
def test_a_loss_is_one_number_in_a_tensor(bad):
    check_loss(torch.ones((), requires_grad=True), "here")
    with pytest.raises(fl.DataError, match="not a scalar") as error:
        check_loss(bad, "here")
    assert error.value.where == "here"


def test_a_loss_has_something_that_trains_behind_it():
    with pytest.raises(fl.DataError, match="does not depend on any trainable parameter"):
        check_loss(torch.ones(()), "here")


def test_sparse_gradients_are_told_from_other_errors():
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    take_step(torch.optim.SGD(embedding.parameters(), lr=0.1))
    with pytest.raises(fl.DataError, match="does not take sparse gradients") as error:
        take_step(torch.optim.AdamW(embedding.parameters()))
    assert "SparseAdam" in error.value.do

    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        take_step(Broken(embedding.parameters(), lr=0.1))


def test_sparse_parameters_are_refused():
    model = nn.Sequential(nn.Linear(2, 2))
    check_dense(model)
    model.weight = nn.Parameter(torch.eye(3).to_sparse())
    for refused in (check_dense, copied):
        with pytest.raises(fl.DataError, match="parameter is a sparse tensor") as error:
            refused(model)
        assert error.value.where == "weight"


def test_a_pruned_model_is_copied_with_its_optimizer():
    model = nn.Sequential(nn.Linear(4, 4))
    prune.l1_unstructured(model[0], "weight", 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.ones(1, 4)
    model(x).sum().backward()
    twin, own = copied(model, optimizer)
    assert torch.equal(twin(x), model(x))
    assert own.param_groups[0]["params"][0] is next(twin.parameters())
    before = model[0].weight.clone()
    twin(x).sum().backward()
    own.step()
    twin(x)
    assert not torch.equal(twin[0].weight, before)
    assert torch.equal((twin[0].weight == 0), (before == 0))
    assert torch.equal(model[0].weight, before)


def test_what_cannot_be_copied_is_said():
    model = nn.Linear(2, 2)
    model.file = open(__file__)  # noqa: SIM115 (held on purpose)
    with model.file, pytest.raises(fl.DataError, match="cannot be copied"):
        copied(model)


def by_argument(_, clip):
    return lambda one, *_: clip([p for group in one.param_groups for p in group["params"]]) and None


def by_closure(model, clip):
    parameters = list(model.parameters())
    return lambda *_: clip(parameters) and None


class Clipper:
    def __init__(self, model, clip):
        self.model, self.clip = model, clip

    def before(self, *_):
        self.clip(self.model.parameters())

    def __call__(self, *_):
        self.before()


def by_nested_helpers(model, clip):
    def helper():
        clip(model.parameters())

    @torch.no_grad()
    def hook(*_, many=1):
        for _ in range(many):
            helper()

    return hook


def by_method(model, clip):
    return Clipper(model, clip).before


def by_partial(model, clip):
    return partial(clip_of, clip, parameters=list(model.parameters()))


def clip_of(clip, *_, parameters):
    clip(parameters)


@pytest.mark.parametrize("make", [by_argument, by_closure, by_nested_helpers, by_method, by_partial, Clipper])
def test_hooks_before_the_step_are_turned_to_the_copy(make):
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    clip = fl.remedies.clip_by_norm(1e-3)
    optimizer.register_step_pre_hook(make(model, clip))
    twin, own = copied(model, optimizer)
    third, last = copied(twin, own)
    for one, steps in ((twin, own), (third, last)):
        one(torch.ones(1, 2)).sum().backward()
        steps.step()
        assert float((one.weight - model.weight).detach().norm()) == pytest.approx(1e-3, rel=1e-3)
    assert clip.num_calls == 0


everywhere = nn.Linear(2, 1)
held = {"model": everywhere}


def clip_everywhere(*_):
    nn.utils.clip_grad_norm_(everywhere.parameters(), 1.0)


def clip_by_dict(*_):
    nn.utils.clip_grad_norm_(held["model"].parameters(), 1.0)


@pytest.mark.parametrize("hook", [clip_everywhere, clip_by_dict, lambda *_: clip_everywhere()])
def test_a_hook_that_holds_the_model_as_a_global_is_refused(hook):
    optimizer = torch.optim.SGD(everywhere.parameters(), lr=1.0)
    optimizer.register_step_pre_hook(hook)
    with pytest.raises(fl.DataError, match="cannot be turned to a copy") as error:
        copied(everywhere, optimizer)
    assert "by a global name" in error.value.received


def test_hooks_after_the_step_stay_with_the_original():
    model, calls = nn.Linear(2, 1), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    twin, own = copied(model, optimizer)
    twin(torch.ones(1, 2)).sum().backward()
    own.step()
    assert not calls


def test_an_optimizer_that_needs_a_closure_is_told_from_other_errors():
    model = nn.Linear(2, 1)
    with pytest.raises(fl.DataError, match="needs a closure") as error:
        take_step(torch.optim.LBFGS(model.parameters()))
    assert error.value.where == "LBFGS"

    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            raise TypeError("something else") if self.param_groups[0]["lr"] < 1 else TypeError("closure")

    with pytest.raises(TypeError, match="something else"):
        take_step(Broken(model.parameters(), lr=0.1))


def test_what_stands_for_an_optimizer_is_one_and_its_class_is_none():
    optimizer = torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    assert is_optimizer(optimizer)
    for other in (torch.optim.SGD, None, nn.Linear(2, 1), "sgd"):
        assert not is_optimizer(other)


def test_a_hook_with_defaults_and_attributes_keeps_them_in_the_copy():
    model = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    def hook(one, *_, factor=0.5, of=model.weight, **__):
        of.grad.mul_(factor * hook_of["extra"])

    hook_of = {"extra": 0.5}
    hook.parameter = model.weight
    optimizer.register_step_pre_hook(hook)
    twin, own = copied(model, optimizer)
    before = twin.weight.detach().clone()
    twin(torch.ones(1, 2)).sum().backward()
    own.step()
    assert torch.allclose(before - twin.weight.detach(), torch.full((1, 2), 0.25))
    assert model.weight.grad is None
    (turned,) = own._optimizer_step_pre_hooks.values()
    assert turned.parameter is twin.weight


def test_a_plain_tensor_that_trains_trains_in_the_copy_too():
    model = nn.Linear(2, 1)
    model.temperature = torch.ones((), requires_grad=True)
    optimizer = torch.optim.SGD([*model.parameters(), model.temperature], lr=1.0)
    twin, own = copied(model, optimizer)
    assert twin.temperature.requires_grad
    (twin(torch.ones(1, 2)) * twin.temperature).sum().backward()
    own.step()
    assert twin.temperature.item() != 1.0
    assert model.temperature.item() == 1.0


def test_a_loss_that_was_made_anew_brings_no_gradient_to_any_parameter():
    model = nn.Linear(2, 1)
    torch.tensor(1.0, requires_grad=True).backward()
    with pytest.raises(fl.DataError, match="though backward runs") as error:
        check_reached(model.parameters(), "batch 0")
    assert "requires_grad=True" in error.value.do
    model(torch.ones(1, 2)).sum().backward()
    check_reached(model.parameters(), "batch 0")
    check_reached([], "batch 0")


class Scaled(torch.optim.SGD):
    """An optimizer that keeps a setting and a tensor as attributes, and another optimizer."""

    def __init__(self, parameters, factor):
        parameters = list(parameters)
        super().__init__(parameters, lr=0.1)
        self.factor, self.seen = factor, torch.zeros(1)
        self.inner = torch.optim.SGD(parameters, lr=0.2)
        self.inner.note = "kept"

    def step(self, closure=None):
        self.seen += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= self.factor * parameter.grad


def test_a_copied_optimizer_keeps_the_attributes_of_its_class():
    model = nn.Linear(2, 1)
    optimizer = Scaled(model.parameters(), factor=0.5)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # puts a function of its own before `step`
    twin, own = copied(model, optimizer)
    before = model.weight.detach().clone()
    twin(torch.ones(1, 2)).sum().backward()
    own.step()
    assert torch.equal(model.weight, before)
    assert torch.allclose(twin.weight, before - 0.5)
    assert (float(optimizer.seen), float(own.seen)) == (0.0, 1.0)
    assert own.inner.param_groups[0]["params"][0] is twin.weight
    assert own.inner.note == "kept"


def test_a_checkup_steps_an_optimizer_with_attributes_of_its_own():
    model = nn.Linear(4, 2)
    data = [(torch.randn(8, 4), torch.arange(8) % 2) for _ in range(6)]
    found = fl.checkup(model, data, nn.CrossEntropyLoss(), Scaled(model.parameters(), factor=0.01), progress=False)
    assert "rules passed" in str(found)
