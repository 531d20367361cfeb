import copy

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.steps import copied
from frostline.remedies import clip_by_norm
from frostline.training import clipping_first, make_optimizer, make_scheduler
from frostline.training.optimizers import check_closure, step_scheduler


def layers() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    return model


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam),
                                            ("sgd", torch.optim.SGD), ("rmsprop", torch.optim.RMSprop)])  # fmt: skip
def test_an_optimizer_by_name_holds_what_trains(name, kind):
    model = layers()
    optimizer = make_optimizer(name, model.parameters(), 0.25)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(model[1].weight), id(model[1].bias)]
    assert optimizer.defaults.get("momentum", 0.9) == (0.0 if name == "rmsprop" else 0.9)


def test_an_optimizer_by_callable_gets_what_trains():
    model, given = layers(), []
    optimizer = make_optimizer(lambda own: given.extend(own) or torch.optim.SGD(own, lr=2.0), model.parameters(), 0.1)
    assert [id(p) for p in given] == [id(p) for p in model[1].parameters()]
    assert optimizer.param_groups[0]["lr"] == 2.0


def rates(scheduler: str, epochs: int) -> list[float]:
    optimizer = make_optimizer("sgd", layers().parameters(), 1.0)
    schedule = make_scheduler(scheduler, optimizer, epochs)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def test_schedules_by_name_fall_from_the_rate_to_their_end():
    assert rates("cosine", 4) == pytest.approx([1.0, 0.8535534, 0.5, 0.1464466, 0.0], abs=1e-6)
    assert rates("linear", 2) == pytest.approx([1.0, 0.505, 0.01])
    assert rates("step", 6) == pytest.approx([1.0] * 4 + [0.1] * 3)
    assert rates("step", 1) == pytest.approx([1.0, 0.1])


def test_a_schedule_is_none_or_a_callable_too():
    optimizer = make_optimizer("sgd", layers().parameters(), 1.0)
    assert make_scheduler(None, optimizer, 3) is None
    made = make_scheduler(lambda own: torch.optim.lr_scheduler.ExponentialLR(own, 0.9), optimizer, 3)
    assert made.optimizer is optimizer
    with pytest.raises(fl.DataError, match="made no scheduler"):
        make_scheduler(lambda own: ("mine", own), optimizer, 3)


def test_what_is_no_callable_is_refused():
    optimizer = make_optimizer("sgd", layers().parameters(), 1.0)
    for wrong in (None, 3, nn.Linear):
        with pytest.raises(fl.DataError, match="optimizer cannot be called"):
            make_optimizer(wrong, layers().parameters(), 1.0)
    with pytest.raises(fl.DataError, match="scheduler cannot be called"):
        make_scheduler(3, optimizer, 2)


def test_a_given_optimizer_is_used_and_its_state_follows_the_parameters():
    model = layers()
    given = make_optimizer("adam", model.parameters(), 1.0)
    assert make_optimizer(given, model.parameters(), 0.1) is given
    model(torch.ones(1, 2)).sum().backward()
    given.step()
    model.double()
    make_optimizer(given, model.parameters(), 0.1)
    assert {state["exp_avg"].dtype for state in given.state.values()} == {torch.float64}
    with pytest.raises(fl.DataError, match="does not hold the model's parameters") as error:
        make_optimizer(given, layers().parameters(), 1.0)
    assert "none of them trainable ones of the model" in error.value.received


def test_unknown_names_list_the_nearest():
    with pytest.raises(fl.DataError, match="no optimizer named 'adamm'") as error:
        make_optimizer("adamm", layers().parameters(), 0.1)
    assert "'adam'" in error.value.do
    with pytest.raises(fl.DataError, match="no scheduler named 'cos'") as error:
        make_scheduler("cos", make_optimizer("sgd", layers().parameters(), 0.1), 2)
    assert "callable(optimizer)" in error.value.do


def moved_by_a_step(model, optimizer):
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model(torch.ones(4, 2)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return max(float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), before, strict=True))


def test_steps_of_an_optimizer_and_of_its_copies_are_clipped_for_the_time_of_a_block():
    model, clip = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), clip_by_norm(1e-6)
    optimizer = make_optimizer("sgd", model.parameters(), 1.0)
    plain = copy.deepcopy((model, optimizer))
    with clipping_first(optimizer, clip):
        twins = copied(model, optimizer)
        again = copied(*twins)
        assert moved_by_a_step(model, optimizer) < 1e-5
    assert moved_by_a_step(*twins) < 1e-5
    assert moved_by_a_step(*again) < 1e-5
    assert twins[1].param_groups[0]["params"][0] is twins[0][0].weight
    assert clip.num_calls == 0  # each remembers its own norms
    assert moved_by_a_step(*plain) > 1e-3
    assert moved_by_a_step(model, optimizer) > 1e-3
    assert moved_by_a_step(*copied(model, optimizer)) > 1e-3


def test_without_a_clip_nothing_is_done():
    optimizer = make_optimizer("sgd", layers().parameters(), 1.0)
    with clipping_first(optimizer, None):
        assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("optimizer", ["adamw", lambda parameters: torch.optim.SGD(parameters, lr=0.1)])
def test_a_model_that_is_frozen_whole_has_nothing_to_train(optimizer):
    with pytest.raises(fl.DataError, match="Everything is frozen"):
        make_optimizer(optimizer, layers()[0].parameters(), 0.1)


@pytest.mark.parametrize(("losses", "lr"), [(((1.0, 5.0), (2.0, 4.0)), 0.1), (((1.0, None), (2.0, None)), 0.05)])
def test_a_schedule_that_waits_for_a_plateau_is_told_the_loss(losses, lr):
    optimizer = make_optimizer("sgd", layers().parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    for train_loss, val_loss in losses:
        step_scheduler(scheduler, train_loss, val_loss)
    assert optimizer.param_groups[0]["lr"] == lr


@pytest.mark.parametrize(("made", "text"), [
    (lambda parameters: None, "made no optimizer"),
    (lambda parameters: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), "does not hold the model's parameters"),
])  # fmt: skip
def test_a_callable_has_to_make_an_optimizer_over_what_trains(made, text):
    with pytest.raises(fl.DataError, match=text) as error:
        make_optimizer(made, layers().parameters(), 0.1)
    assert error.value.where == "fit(optimizer=...)"


@pytest.mark.parametrize(
    ("options", "given"),
    [({"has_clip": True}, "clip"), ({"has_out": True}, "out"), ({"is_scaled": True}, "precision"),
     ({"has_clip": True, "has_out": True}, "clip"), ({"has_groups": True}, "accumulation"),
     ({}, None)],
)  # fmt: skip
def test_what_a_closure_cannot_be_combined_with_is_named(options, given):
    options = {"is_scaled": False, "has_clip": False, "has_out": False, **options}
    check_closure(make_optimizer("sgd", layers().parameters(), 0.1), **options)
    optimizer = torch.optim.LBFGS(layers()[1].parameters())
    if given is None:
        check_closure(optimizer, **options)
        return
    with pytest.raises(fl.DataError, match=f"cannot be used with {given}=") as error:
        check_closure(optimizer, **options)
    assert (error.value.where, error.value.received) == (f"fit({given}=...)", "LBFGS")


def test_a_model_without_parameters_is_not_told_to_thaw():
    with pytest.raises(fl.DataError, match="has no parameters") as error:
        make_optimizer("sgd", nn.ReLU().parameters(), 1.0)
    assert "thaw" not in error.value.do


def test_a_scheduler_that_waits_for_a_plateau_is_not_stepped_after_each_step():
    optimizer = make_optimizer("sgd", layers().parameters(), 0.1)
    with pytest.raises(fl.DataError, match="waits for a plateau of the validation") as error:
        make_scheduler(torch.optim.lr_scheduler.ReduceLROnPlateau, optimizer, 3, is_per_epoch=False)
    assert error.value.received == "ReduceLROnPlateau"
