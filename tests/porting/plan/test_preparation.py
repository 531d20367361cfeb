import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of


class Prepared(nn.Module):
    def __init__(self, *names, shape=(3, 1)):
        super().__init__()
        for name in names:
            self.register_buffer(name, torch.zeros(shape))
        self.out = nn.Linear(3, 2)


SOURCE = source_of("keras", {
    "scale": {"mean": numbers(3), "variance": numbers(3) + 1, "count": torch.tensor(7)},
    "dense": {"kernel": numbers(3, 2), "bias": numbers(2)},
})  # fmt: skip


def test_mean_and_variance_become_tensors_that_are_called_so():
    model = Prepared("data_mean", "data_var")
    plan = make_plan(SOURCE, "file", model)
    carry_out(plan, model)
    assert torch.equal(model.data_mean[:, 0], numbers(3))
    assert torch.equal(model.data_var[:, 0], numbers(3) + 1)
    assert plan.dropped == {"scale/count": "counter"}


def test_a_standard_deviation_is_the_root_of_the_variance():
    model = Prepared("mean", "std", shape=(3,))
    carry_out(make_plan(SOURCE, "file", model), model)
    assert torch.equal(model.std, (numbers(3) + 1).sqrt())


def test_a_module_without_them_is_told_what_to_do_with_its_inputs():
    plan = make_plan(SOURCE, "file", nn.Sequential(nn.Linear(3, 2)))
    assert plan.dropped["scale/mean"] == "preparation of inputs"
    (note,) = plan.notes
    first = numbers(3)[0]
    assert f"subtract ({first:.6g}, " in note
    assert f"divide by ({(first + 1).sqrt():.6g}, " in note
    long = source_of("keras", {"n": {"mean": numbers(9), "variance": numbers(9)}, "dense": {"kernel": numbers(3, 2)}})
    assert ", ...)" in make_plan(long, "file", nn.Sequential(nn.Linear(3, 2))).notes[0]


def test_names_that_say_something_else_are_no_partners():
    with pytest.raises(PortError, match="no partner"):
        make_plan(SOURCE, "file", Prepared("mean", "scale", shape=(3,)))


def stated(**settings):
    layers = [("n", "Normalization", settings, ()), ("dense", "Dense", {}, ("n",))]
    return source_of("keras", {"dense": {"kernel": numbers(3, 2), "bias": numbers(2)}}, layers=layers)


@pytest.mark.parametrize("start", ["", "input_"])
def test_a_mean_and_a_variance_that_the_architecture_states_are_ported(start):
    model = Prepared("mean", "std", shape=(3, 1))
    source = stated(**{f"{start}mean": [0.5, 1.0, 2.0], f"{start}variance": [[1.0, 4.0, 9.0]]})
    plan = make_plan(source, "file", model)
    carry_out(plan, model)
    assert model.mean.flatten().tolist() == [0.5, 1.0, 2.0]
    assert model.std.flatten().tolist() == [1.0, 2.0, 3.0]
    assert any("stated in the architecture" in note and "'n'" in note for note in plan.notes)


@pytest.mark.parametrize("settings", [{"mean": None, "variance": None}, {"mean": "x", "variance": {}}, {"mean": [1.0]}])
def test_what_the_architecture_does_not_state_is_not_made_up(settings):
    with pytest.raises(PortError, match="no partner"):
        make_plan(stated(**settings), "file", Prepared("mean", "std", shape=(3,)))


def test_stated_numbers_for_which_the_module_has_no_tensor_are_left_to_the_check_of_inputs():
    plan = make_plan(stated(mean=[1.0] * 3, variance=[1.0] * 3), "file", nn.Sequential(nn.Linear(3, 2)))
    assert [step.source.name for step in plan.steps] == ["dense"]
