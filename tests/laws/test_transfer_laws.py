"""Laws of freezing and reusing, on random networks."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import frostline as fl
from laws.networks import plans

networks = plans(max_blocks=3)
positions = st.floats(0, 0.99)


def layer(model: nn.Module, position: float) -> str:
    """Any layer of the model."""
    names = [name for name, _ in model.named_modules() if name]
    return names[int(position * len(names))]


def line(model: nn.Module) -> tuple[dict[str, bool], dict[str, bool]]:
    """What trains, and what is in training mode after `train()`; the model is left as it was."""
    modes = [module.training for module in model.modules()]
    for module in model.modules():  # whatever stood there before, `train()` decides
        module.training = True
    model.train()
    found = {name: module.training for name, module in model.named_modules()}
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}, found


def below(model: nn.Module, through: str) -> set[str]:
    """The layers that `freeze(model, through=...)` speaks of, by the definition: registered up to and including it."""
    names = [name for name, _ in model.named_modules() if name]
    upto = {name for name in names[: names.index(through)] if not through.startswith(f"{name}.")}
    return upto | {name for name in names if name == through or name.startswith(f"{through}.")}


def assert_line(model: nn.Module, through: str) -> None:
    """Everything below the line is frozen, and what holds a trainable parameter is in training mode."""
    trains, modes = line(model)
    frozen = below(model, through)
    assert {name for name in frozen if modes[name]} == set()
    assert {name for name, is_on in trains.items() if is_on and name.rpartition(".")[0] in frozen} == set()
    alive = {name for name, module in model.named_modules() if any(p.requires_grad for p in module.parameters())}
    assert {name for name in alive if not modes[name]} == set()
    assert {name for name in modes if name not in frozen and name.rpartition(".")[0] not in frozen} >= alive


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert list(one) == list(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def train(model: nn.Module, plan: Any) -> None:
    """Three steps of training, as a user's loop makes them."""
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(plan.inputs(4, seed=step)).square().sum().backward()
        optimizer.step()


@given(networks, positions)
def test_thawing_undoes_freezing(plan, position):
    model = plan.build()
    free, state = line(model), values(model)
    attributes = [sorted(vars(module)) for module in model.modules()]
    through = layer(model, position)
    first = fl.freeze(model, through=through)
    second = fl.thaw(model)
    assert line(model) == free
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    assert_same(values(model), state)
    assert set(first.parameters) == set(second.parameters)
    assert second.num_frozen == 0


@given(networks, positions, positions)
def test_a_lower_freeze_within_a_higher_one_changes_nothing(plan, one, other):
    model = plan.build()
    names = [name for name, _ in model.named_modules() if name]
    low, high = sorted((layer(model, one), layer(model, other)), key=names.index)
    fl.freeze(model, through=high)
    frozen = line(model)
    again = fl.freeze(model, through=low)
    assert line(model) == frozen or high.startswith(f"{low}.")
    assert again.parameters == () or high.startswith(f"{low}.")


@given(networks, positions)
def test_what_is_frozen_and_what_is_thawed_meet_at_the_line(plan, position):
    model = plan.build()
    names = [name for name, _ in model.named_modules() if name]
    name = layer(model, position)
    fl.freeze(model)
    fl.thaw(model, down_to=name)
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    above = names[names.index(name) :]
    assert trains == {n for n, _ in model.named_parameters() if n.rpartition(".")[0] in above}


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def reloaded(model: nn.Module) -> nn.Module:
    model.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return model


def switched(model: nn.Module) -> nn.Module:
    for mode in (True, False, True):
        model.train(mode)
    return model.eval().train()


JOURNEYS = {"train": switched, "deepcopy": copy.deepcopy, "pickle": pickled, "save": saved, "state dict": reloaded}


@settings(max_examples=30)
@given(networks, st.lists(st.sampled_from(sorted(JOURNEYS)), min_size=1, max_size=3))
def test_the_freeze_survives_every_journey(plan, journeys):
    model = plan.frozen()
    assert_line(model, plan.cut(model))
    frozen, state = line(model), values(model)
    other = model
    for journey in journeys:
        other = JOURNEYS[journey](other)
    assert line(other) == frozen
    assert_same(values(other), state)
    if other is not model:
        fl.thaw(other)
        assert line(model) == frozen  # the copy's switches are its own
        other = copy.deepcopy(model)
    train(other, plan)
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [
        n for n, p in model.named_parameters() if n not in trains and not torch.equal(p, other.get_parameter(n))
    ] == []


@given(networks, positions)
def test_freezing_through_a_layer_freezes_what_is_registered_up_to_it(plan, position):
    model = plan.build()
    fl.freeze(model, through=layer(model, position))
    assert_line(model, layer(model, position))


@settings(max_examples=30)
@given(networks)
def test_frozen_layers_stand_still_while_the_rest_trains(plan):
    model = plan.frozen()
    frozen = below(model, plan.cut(model))
    before = {name: values(model.get_submodule(name)) for name in frozen}
    last = model[-1].weight.detach().clone()
    train(model, plan)
    for name, state in before.items():
        assert_same(values(model.get_submodule(name)), state)
    assert not torch.equal(model[-1].weight, last)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@settings(max_examples=20)
@given(networks)
def test_a_frozen_layer_gives_the_same_twice(plan):
    model = plan.build()
    fl.freeze(model)
    fl.thaw(model, down_to=str(len(model) - 1))
    model.train()
    batch = plan.inputs(4)
    assert torch.equal(model(batch), model(batch))


@given(networks, positions)
def test_the_state_dict_gains_and_loses_no_keys(plan, position):
    model = plan.build()
    keys = list(model.state_dict())
    fl.freeze(model, through=layer(model, position))
    assert list(model.state_dict()) == keys
    plan.build().load_state_dict(model.state_dict())
    fl.thaw(model)
    assert list(model.state_dict()) == keys


@given(networks, positions, st.integers(0, 2**16), st.booleans())
def test_reuse_copies_exactly_what_it_says(plan, position, dropped, is_frozen):
    source, target = plan.build(), plan.build()
    with torch.no_grad():
        for tensor in source.state_dict().values():
            tensor.add_(1)
    if is_frozen:
        fl.freeze(target, through=layer(target, position))
    frozen, before, given_ = line(target), values(target), values(source)
    for at, name in enumerate(list(given_)[1:]):  # some tensors are missing, some have another shape
        if dropped >> (2 * at) & 3 == 1:
            del given_[name]
        elif dropped >> (2 * at) & 3 == 2:
            given_[name] = torch.zeros(*given_[name].shape, 2)
    summary = fl.reuse(Stateful(given_), target, through=layer(target, position))
    after = values(target)
    assert [name for name in after if not torch.equal(after[name], before[name])] == list(summary.copied)
    assert all(torch.equal(after[name], given_[name]) for name in summary.copied)
    assert all(name not in given_ for name in summary.new)
    assert [text.partition(":")[0] for text in summary.skipped] == [
        name for name in after
        if name in given_ and name not in summary.copied and name in inside(target, layer(target, position))
    ]  # fmt: skip
    told = [*summary.copied, *summary.new, *(text.partition(":")[0] for text in summary.skipped)]
    assert sorted(told) == sorted(inside(target, layer(target, position)))
    assert line(target) == frozen


def inside(model: nn.Module, through: str) -> list[str]:
    """Tensors held by the modules up to `through`, its descendants and its ancestors."""
    names = [name for name, _ in model.named_modules()]
    upto = names[: names.index(through) + 1] + [name for name in names if name.startswith(f"{through}.")]
    return [key for key in model.state_dict() if key.rpartition(".")[0] in upto]


class Stateful(nn.Module):
    """A module with just these tensors, as another library could have saved them."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.state
