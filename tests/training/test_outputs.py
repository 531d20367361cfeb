import dataclasses
import warnings
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.training.outputs import loss_of, output_of, tensors_of


def test_the_loss_takes_tensors_logits_and_the_only_entry():
    x = torch.ones(2)
    assert output_of(x) is x
    assert output_of(SimpleNamespace(logits=x, loss=None)) is x
    assert output_of((x, "more")) is x
    assert output_of({"logits": x}) is x
    assert output_of([x]) is x


@pytest.mark.parametrize(
    "odd",
    [None, (), (torch.ones(1), torch.ones(1)), {"a": torch.ones(1), "b": torch.ones(2)}, SimpleNamespace(logits=3)],
)
def test_other_outputs_are_refused(odd):
    with pytest.raises(fl.DataError, match="which part of the model's output"):
        output_of(odd)


def test_a_choice_of_tensors_is_listed():
    with pytest.raises(fl.DataError, match="which part") as error:
        output_of({"a": torch.ones(4, 2), "b": torch.ones(4, 3)})
    assert "['a']: float32 (4, 2), ['b']: float32 (4, 3)" in error.value.received


@dataclasses.dataclass
class Scores:
    coarse: torch.Tensor
    fine: torch.Tensor


Pair = namedtuple("Pair", "coarse fine")


@pytest.mark.parametrize(
    "make",
    [lambda a, b: (a, b), lambda a, b: [{"x": a}, None, b], lambda a, b: {"a": a, 1: (b,)}, Scores, Pair,
     lambda a, b: SimpleNamespace(coarse=a, deep={"fine": [b]})],
)  # fmt: skip
def test_every_choice_is_listed_as_it_is_picked(make):
    first, second = torch.ones(4, 2), torch.zeros(4, 3)
    output = make(first, second)
    found = tensors_of(output)
    picked = [eval(f"output{place}", {"output": output}) for place in found]
    assert picked[0] is first
    assert picked[1] is second
    with pytest.raises(fl.DataError, match="which part") as error:
        output_of(output)
    assert all(place in error.value.received for place in found)
    assert f"output{next(iter(found))}" in error.value.do


def test_an_output_that_holds_itself_and_modules_are_no_choices():
    output = {"a": torch.ones(2)}
    output["again"] = output
    assert len(tensors_of(output)) > 1
    assert tensors_of(nn.Linear(2, 2)) == tensors_of(int) == tensors_of("text") == tensors_of(3) == {}


def test_a_loss_that_cannot_take_the_parts_of_an_output_is_told_them_and_the_remedy_works():
    output, labels = {"loss": None, "logits": torch.randn(4, 3)}, torch.zeros(4).long()
    with pytest.raises(fl.DataError, match="which has parts") as error:
        loss_of(F.cross_entropy, output, labels)
    assert "output['logits']" in error.value.do
    assert loss_of(lambda output, target: F.cross_entropy(output["logits"], target), output, labels).isfinite()
    with pytest.raises(ValueError, match="mine"):
        loss_of(_raises, torch.ones(2), labels)


def _raises(output, target):
    raise ValueError("mine")


@pytest.mark.parametrize("loss", [nn.MSELoss(), F.l1_loss, lambda output, target: F.smooth_l1_loss(output, target)])
def test_a_loss_that_compares_all_with_all_is_refused_and_the_remedy_works(loss):
    output, target = torch.randn(4, 1), torch.randn(4)
    with pytest.raises(fl.DataError, match="every output with every target") as error:
        loss_of(loss, output, target, is_first=True)
    assert "output.reshape(target.shape)" in error.value.do
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        right = loss_of(lambda o, t: loss(o.reshape(t.shape), t), output, target, is_first=True)
    assert torch.equal(right, loss(output, target[:, None]))


def test_warnings_of_a_loss_stay_warnings():
    def loss(output, target):
        warnings.warn("of my own", UserWarning, stacklevel=2)
        return output.mean()

    with pytest.warns(UserWarning, match="of my own"):
        assert loss_of(loss, torch.ones(2), None, is_first=True) == 1


def test_of_many_tensors_the_first_are_listed():
    with pytest.raises(fl.DataError) as error:
        output_of([torch.ones(1)] * 9)
    assert "9 tensors" in error.value.received
    assert "[5]: float32 (1,), 3 more" in error.value.received


@pytest.mark.parametrize(
    ("loss", "target", "taken"),
    [(nn.CrossEntropyLoss(), torch.tensor([0, 1], dtype=torch.int32), "torch.int64"),
     (nn.CrossEntropyLoss(), torch.tensor([True, False]), "torch.int64"),
     (nn.MultiMarginLoss(), torch.tensor([0.0, 1.0]), "torch.int64"),
     (nn.BCEWithLogitsLoss(), torch.ones(2, 3, dtype=torch.int64), "torch.float32")],
)  # fmt: skip
def test_targets_of_a_dtype_that_the_loss_does_not_take_are_told_which_it_takes(loss, target, taken):
    output = torch.zeros(2, 3)
    with pytest.raises(fl.DataError, match="takes these targets in another dtype") as error:
        loss_of(loss, output, target, is_first=True)
    assert error.value.do == f"convert them in the dataset: torch.as_tensor(target).to({taken})."
    loss_of(loss, output, target.to(getattr(torch, taken.removeprefix("torch."))), is_first=True)


def test_a_loss_that_takes_the_targets_in_no_dtype_raises_its_own_error():
    with pytest.raises((ValueError, RuntimeError), match="batch"):
        loss_of(nn.CrossEntropyLoss(), torch.zeros(2, 3), torch.zeros(5, dtype=torch.int64), is_first=True)
