"""The fuzzer of public calls finds what breaks the law, and lets everything else pass."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

import frostline as fl
from exams.fuzz.calls import Tally
from exams.fuzz.public import verdicts
from exams.fuzz.public.advice import faulty_advice
from exams.fuzz.public.catalogue import DOORS, defaults_of, parse, single, smallest
from exams.fuzz.public.doors import Door
from exams.fuzz.public.networks import mlp
from exams.fuzz.public.pools import Call, Pool, UserFault, constants
from exams.fuzz.public.verdicts import judge


def door(run, **options):
    model = Pool({"mlp": lambda _: mlp(), "frozen": lambda _: mlp().requires_grad_(False)})
    values = Pool(constants({"1": 1}), constants({"2": 2}))
    return Door("door", lambda value: None, {"model": model, "value": values}, run, **options)


PLAIN = Call("door", {"model": "mlp", "value": "1", "ambient": "plain"})


def refuse(do="do something else", what="No."):
    raise fl.DataError(what=what, where="here", received="this", do=do)


def break_nothing(world):
    return 3


def break_python(world):
    return None.shape


def break_parts(world):
    refuse(do=" ")


def draw(world):
    torch.randn(1)


def change_dtype(world):
    torch.set_default_dtype(torch.float64)


def forbid_gradients(world):
    torch.set_grad_enabled(False)


def change_mode(world):
    world.model.eval()


def change_weights(world):
    world.model[0].weight.data.add_(1)


def leave_hook(world):
    world.model[0].register_forward_hook(print)


def freeze_and_refuse(world):
    world.model.requires_grad_(False)
    refuse()


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (break_nothing, None),
        (refuse, None),
        (break_python, "AttributeError"),
        (break_parts, "empty do"),
        (draw, "moved generator of torch"),
        (change_dtype, "moved default dtype"),
        (forbid_gradients, "moved grad mode"),
        (change_mode, "moved the model's mode"),
        (change_weights, "moved the model's parameter"),
        (leave_hook, "moved the model's hooks"),
        (freeze_and_refuse, "moved the model's requires_grad"),
    ],
)
def test_the_judge_finds_what_breaks_the_law(run, kind):
    verdict = judge(door(lambda world, prepared, values: run(world) if run is not refuse else refuse()), PLAIN)
    assert (verdict.fault.kind if verdict.fault else None) == kind
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_the_judge_takes_results_errors_and_faults_of_the_users_own_code():
    def users(world, prepared, values):
        try:
            raise UserFault("forward")
        except UserFault as error:
            raise RuntimeError("in the user's forward") from error

    assert judge(door(lambda world, prepared, values: 3), PLAIN).outcome == "result"
    assert judge(door(lambda world, prepared, values: refuse()), PLAIN).outcome == "refused"
    assert judge(door(users), PLAIN).outcome == "refused"
    assert judge(
        door(lambda world, prepared, values: world.model.eval(), on_success=frozenset({"mode"})), PLAIN
    ).outcome


def test_a_call_that_does_not_end_is_a_fault(monkeypatch):
    monkeypatch.setattr(verdicts, "LIMIT_S", 1)
    assert judge(door(lambda world, prepared, values: _forever()), PLAIN).fault.kind == "hang"


def _forever():
    while time.monotonic():
        pass


def test_a_remedy_that_does_not_help_is_a_fault():
    def wants_frozen(do):
        def run(world, prepared, values):
            if any(parameter.requires_grad for parameter in world.model.parameters()):
                refuse(do, "Not frozen.")

        return door(run, on_success=frozenset({"mode"}))

    for do, helps in [
        ("frostline.freeze(model) first.", True),
        ('frostline.freeze(model, through="LAYER") first.', True),
        ("frostline.freeze(model, modules=[model.get_submodule('0')]), then again.", False),
        ("frostline.thaw(model) first.", False),
        ("model.eval() first.", False),
        ("pass value=2.", False),
        ("pray.", True),
    ]:
        made = wants_frozen(do)
        error = judge(made, PLAIN).error
        fault = faulty_advice(made, PLAIN, error)
        assert (fault is None) == helps, do


def test_a_call_is_read_back_from_its_text():
    call = parse("freeze(model=mlp, through=unknown, ambient=no_grad)")
    assert call.labels["through"] == "unknown"
    assert call.plainly(defaults_of(DOORS["freeze"])) == "freeze(through=unknown, ambient=no_grad)"
    assert parse(call.plainly(defaults_of(DOORS["freeze"]))) == call


def test_the_smallest_call_keeps_the_fault(monkeypatch):
    made = door(lambda world, prepared, values: None.shape if values["value"] == 2 else None)
    monkeypatch.setitem(DOORS, "door", made)
    large = Call("door", {"model": "frozen", "value": "2", "ambient": "no_grad"})
    fault = judge(made, large).fault
    small = smallest(large, fault.key, judge)
    assert small.plainly(defaults_of(made)) == "door(value=2)"
    assert len(list(single(made))) == 1 + 1 + 1 + len(verdicts.AMBIENT.odd)


def test_faults_are_counted_and_told_by_their_smallest_call(monkeypatch, tmp_path):
    made = door(lambda world, prepared, values: None.shape if values["value"] == 2 else None, owner="doctor")
    monkeypatch.setitem(DOORS, "door", made)
    tally = Tally(tmp_path / "report.md")
    for labels in ({"value": "2", "model": "frozen"}, {"value": "1"}, {"value": "2"}):
        tally.add(Call("door", {**PLAIN.labels, **labels}))
    tally.write()
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("3 calls: 2 fault, 1 result. 1 different faults.")
    assert "## doctor" in text
    assert "| 2 | AttributeError | outside | `door(value=2)` |" in text


def test_a_model_is_compared_to_the_bit():
    model = nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(2))
    before = verdicts.states.model_state(model)
    assert verdicts.states.model_state(model) == before
    model[0].weight.grad = torch.zeros(2, 2)
    assert verdicts.states.changes(before, verdicts.states.model_state(model)) == ["gradient"]
