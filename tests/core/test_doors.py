import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.doors import public
from frostline.core.order import epoch_order


class OwnError(Exception):
    pass


class OwnValueError(ValueError):
    pass


class Model(nn.Module):
    def __init__(self, error=None):
        super().__init__()
        self.layer, self.error = nn.Linear(3, 2), error

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return self.layer(x)


@public("train")
def train(model, batch, *, steps: int = 1) -> int:
    """Train."""
    for _ in range(steps):
        model(batch)
    return steps


def test_a_result_and_the_signature_stay():
    assert train(Model(), torch.zeros(2, 3), steps=2) == 2
    assert list(inspect.signature(train).parameters) == ["model", "batch", "steps"]
    assert train.__doc__ == "Train."


@pytest.mark.parametrize(
    "error", [RuntimeError("no\nmore"), ValueError("no"), KeyError("no"), AssertionError(), ZeroDivisionError("by 0")]
)
def test_an_error_of_the_model_is_told_in_four_parts(error):
    with pytest.raises(fl.DataError, match="the model, the loss, the optimizer or the data raised an error") as caught:
        train(Model(error), torch.zeros(2, 3))
    assert caught.value.what.startswith("train stopped")
    assert caught.value.where.startswith("forward, test_doors.py line ")
    assert caught.value.received.startswith(type(error).__name__)
    assert "\n" not in caught.value.received
    assert caught.value.__cause__ is error


def test_an_error_of_torch_names_the_line_of_the_caller_that_led_there():
    with pytest.raises(fl.DataError) as caught:
        train(Model(), torch.zeros(2, 5))
    assert caught.value.where.startswith("forward, test_doors.py line ")
    assert caught.value.received.startswith("RuntimeError: mat1 and mat2 shapes")
    with pytest.raises(fl.DataError) as caught:
        train(nn.Linear(3, 2), torch.zeros(2, 5))
    assert "test_doors.py" in caught.value.where


@pytest.mark.parametrize("error", [OwnError("mine"), OwnValueError("mine"), KeyboardInterrupt()])
def test_exceptions_of_the_callers_own_classes_pass(error):
    with pytest.raises(type(error)) as caught:
        train(Model(error), torch.zeros(2, 3))
    assert caught.value is error


def test_our_own_errors_pass_as_they_are():
    error = fl.SplitError(what="a", where="b", received="c", do="d")
    with pytest.raises(fl.SplitError) as caught:
        train(Model(error), torch.zeros(2, 3))
    assert caught.value is error


def test_an_error_of_a_line_of_this_library_is_not_blamed_on_the_caller():
    with pytest.raises(TypeError):
        public("order")(epoch_order)(None, shuffle=False, seed=0, epoch=0)


def test_a_callable_that_takes_other_arguments_is_the_callers():
    @public("score")
    def score(metric):
        return metric(1, 2)

    for wrong in (lambda: 0, lambda a: a, lambda a, b, c: a):
        with pytest.raises(fl.DataError, match="score stopped") as caught:
            score(wrong)
        assert "argument" in caught.value.received


def test_the_meta_device_as_default_stays_outside():
    @public("make")
    def make():
        return torch.zeros(2)

    with torch.device("meta"):
        assert not make().is_meta
        assert torch.zeros(2).is_meta


def test_an_inner_door_lets_errors_pass_to_the_outer_one():
    """`split` calls `Split.verify` itself, and says more about what fails there."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    fl.freeze(model, through="0")
    split = fl.split(model, torch.zeros(4, 3))
    with pytest.raises(fl.DataError, match="Split.extract stopped"):
        split.extract(torch.zeros(4, 5))
    with pytest.raises(fl.DataError, match="Split.verify stopped"):
        split.verify(torch.zeros(4, 5))


def test_any_other_device_as_default_is_the_callers_choice():
    @public("ask")
    def ask():
        return torch.get_default_device()

    with torch.device("cuda:0"):  # nothing is made there
        assert ask() == torch.device("cuda:0")


def test_an_error_of_a_lambda_is_the_callers():
    @public("score")
    def score(metric):
        return metric(torch.zeros(2))

    for wrong in (lambda x: x[5], lambda x: x.no_such_name, lambda x: [][x.numel()]):
        with pytest.raises(fl.DataError, match="score stopped") as caught:
            score(wrong)
        assert caught.value.where.startswith("<lambda>, test_doors.py line ")


def called_from(file, function):
    """The function called by a line of this file."""
    names = {"function": function}
    exec(compile("def call():\n    return function()", str(file), "exec"), names)
    return names["call"]


def test_the_command_line_and_neighbours_of_the_package_are_callers_and_the_package_is_none():
    package = Path(fl.__file__).parent

    def fails():
        raise ValueError("no")

    door = public("make")(fails)
    for file in (package / "cli" / "main.py", package.parent / "train.py"):
        with pytest.raises(fl.DataError, match="make stopped"):
            called_from(file, door)()
    with pytest.raises(ValueError, match="no"):
        called_from(package / "recipes" / "fit.py", door)()
    raised = called_from(package.parent / "train.py", lambda: [][3])
    with pytest.raises(fl.DataError, match="make stopped"):
        public("make")(raised)()


def test_a_call_without_a_loss_speaks_of_none():
    @public("inspect", alone="model(inputs)")
    def inspect_(model):
        model(torch.zeros(1, 3))

    with pytest.raises(fl.DataError) as caught:
        inspect_(Model(ValueError("no")))
    assert caught.value.do.endswith("on one batch: model(inputs).")


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_the_death_of_a_worker_process_is_told_whatever_was_made_of_it(is_wrapped):
    death = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    def forward(_):
        if not is_wrapped:
            raise death
        what = "An item of the dataset cannot be read."
        raise fl.DataError(what=what, where="dataset[3]", received=str(death), do="repair it.") from death

    with pytest.raises(fl.DataError, match="ended before its work was done") as error:
        train(forward, torch.zeros(2, 3))
    assert error.value.received == str(death)
    assert "num_workers" in error.value.do


NO_MEMORY = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"


@pytest.mark.parametrize("shortage", [RuntimeError(NO_MEMORY), torch.OutOfMemoryError("CUDA out of memory."),
                                      MemoryError("Unable to allocate 728. TiB")])  # fmt: skip
def test_a_call_that_finds_no_memory_says_so(shortage):
    with pytest.raises(fl.DataError, match="train stopped: there is not enough memory") as error:
        train(Model(shortage), torch.zeros(2, 3))
    assert str(shortage) in error.value.received
    assert "batch_size" in error.value.do


def test_a_shortage_of_memory_is_told_as_such_whatever_was_made_of_it():
    def forward(_):
        try:
            raise RuntimeError(NO_MEMORY)
        except RuntimeError as error:
            raise fl.DataError(what="Cannot be called.", where="x", received="y", do="Correct it.") from error

    with pytest.raises(fl.DataError, match="not enough memory"):
        train(forward, torch.zeros(2, 3))


def test_a_text_about_memory_of_our_own_stays():
    def forward(_):
        try:
            raise MemoryError
        except MemoryError as error:
            raise fl.PortError(what="The file needs more memory.", where="x", received="y", do="Free some.") from error

    with pytest.raises(fl.PortError, match="The file needs more"):
        train(forward, torch.zeros(2, 3))


class TooLarge(torch.nn.Module):
    """Allocates without end in its forward pass."""

    def __init__(self):
        super().__init__()
        self.below, self.above = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.above(self.below(x)) + torch.empty(10**14).sum()


def test_a_split_that_finds_no_memory_does_not_blame_the_model():
    model = TooLarge()
    fl.freeze(model, modules=[model.below])
    with pytest.raises(fl.DataError, match="not enough memory") as error:
        fl.split(model, torch.zeros(4, 3))
    assert "forward" in error.value.where
