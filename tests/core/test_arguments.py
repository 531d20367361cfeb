from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core import arguments


def refused(check, *words, **options):
    with pytest.raises(fl.DataError) as caught:
        check(*words, **options)
    return caught.value


@pytest.mark.parametrize("model", [None, "resnet18", {}, torch.relu, [nn.Linear(2, 2)]])
def test_what_is_no_model_is_named(model):
    error = refused(arguments.check_model, "fit", model)
    assert error.what == "This is not a model."
    assert error.where == "fit(model=...)"


def test_the_class_of_a_model_is_told_apart_from_a_model():
    assert refused(arguments.check_model, "fit", nn.Linear).do == "make one first: Linear(...)."


def test_a_model_without_shapes_is_run_once():
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    error = refused(arguments.check_model, "freeze", model)
    assert error.what == "The model has layers without a shape: they get it from the first batch."
    assert error.received == "0.weight, 0.bias, 1.weight and 3 more"
    assert arguments.check_model("freeze", model, needs=()) is model
    model(torch.zeros(4, 2))
    assert arguments.check_model("freeze", model) is model


def test_a_model_without_values_or_without_gradients_is_refused_where_it_would_be_run():
    with pytest.raises(fl.DataError, match="are on the meta device"):
        arguments.check_model("fit", nn.Linear(2, 2, device="meta"))
    with torch.inference_mode():
        model = nn.Linear(2, 2)
    with pytest.raises(fl.DataError, match="made in inference mode"):
        arguments.check_model("fit", model)
    assert arguments.check_model("freeze", model, needs=()) is model


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_any_make_are_counts(value):
    assert arguments.as_count("fit", "epochs", value) == 3
    assert type(arguments.as_count("fit", "epochs", value)) is int


@pytest.mark.parametrize(
    "value", [None, "3", b"3", 2.0, float("nan"), float("inf"), True, [3], 1j, torch.tensor([1, 2]), torch.tensor(2.5)]
)
def test_what_is_no_count_is_named(value):
    error = refused(arguments.as_count, "fit", "epochs", value)
    assert error.what == "epochs is not a whole number of 1 or more."
    assert error.do == "pass epochs of 1 or more, such as epochs=1."


def test_a_count_has_a_least_value():
    assert arguments.as_count("fill", "num_workers", 0, least=0) == 0
    assert refused(arguments.as_count, "fill", "num_workers", -1, least=0).received == "-1 (int)"
    assert refused(arguments.as_count, "fit", "epochs", 0).received == "0 (int)"


def test_a_seed_has_64_bits():
    assert arguments.as_seed("fit", "seed", -1) == -1
    assert arguments.as_seed("fit", "seed", 2**64 - 1) == 2**64 - 1
    assert refused(arguments.as_seed, "fit", "seed", 2**64).what == "seed has more than 64 bits."
    assert "whole number" in refused(arguments.as_seed, "fit", "seed", None).what


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), 1])
def test_numbers_of_any_make_are_numbers(value):
    assert arguments.as_number("fit", "lr", value, above=0) == float(value)


@pytest.mark.parametrize("value", [None, "0.1", b"1", True, float("nan"), float("inf"), 1j, [0.1], 10**400, 0, -1])
def test_what_is_no_number_above_its_limit_is_named(value):
    error = refused(arguments.as_number, "fit", "lr", value, above=0)
    assert error.what == "lr is not a finite number above 0."
    assert error.do == "pass a number above 0."


def test_the_limits_of_a_number():
    within = {"least": 0, "below": 1}
    assert arguments.as_number("clip", "alpha", 0, **within) == 0
    assert "of at least 0 and below 1" in refused(arguments.as_number, "clip", "alpha", 1, **within).what
    assert arguments.as_number("clip", "percentile", 100, most=100) == 100
    assert "of at most 100" in refused(arguments.as_number, "clip", "percentile", 100.5, most=100).what
    assert refused(arguments.as_number, "clip", "mean", None).what == "mean is not a finite number."


def test_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert arguments.as_path("fit", "out", "~/run") == tmp_path / "run"
    assert arguments.as_path("fit", "out", tmp_path) == tmp_path
    for value in (None, 3, b"out", "", "a\0b", Path):
        assert refused(arguments.as_path, "fit", "out", value).what == "out is not a path."
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for value in ("x" * 300, tmp_path / "loop", "~nobody-has-this-home/run"):
        assert "this machine can have" in refused(arguments.as_path, "fit", "out", value).what


def test_devices():
    assert arguments.as_device("loader", "device", "cpu") == torch.device("cpu")
    assert arguments.as_device("loader", "device", torch.device("cpu")) == torch.device("cpu")
    for value in ("gpu", "", ["cpu"], "cuda:99", None):
        assert "not a device of this machine" in refused(arguments.as_device, "loader", "device", value).what


def test_names():
    assert arguments.as_name("freeze", "through", "layer3") == "layer3"
    assert arguments.as_names("freeze", "patterns", "*.bn") == ["*.bn"]
    assert arguments.as_names("freeze", "patterns", (name for name in ["a", "b"])) == ["a", "b"]
    assert refused(arguments.as_name, "freeze", "through", "").what == "through is not a name."
    assert refused(arguments.as_names, "freeze", "patterns", [b"a"]).what == "patterns does not hold names."
    for value in (None, 3, b"ab", list, torch.zeros(2)):
        assert refused(arguments.as_names, "freeze", "patterns", value).what == "patterns is not a list."


def test_items_are_looked_at_without_being_used_up():
    given = iter([1, 2])
    assert arguments.check_items("heal", "batches", given) is given
    assert list(given) == [1, 2]
    assert arguments.as_items("heal", "batches", {"a": 1}) == ["a"]


def test_optimizers():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert arguments.check_optimizer("heal", "optimizer", optimizer) is optimizer
    for value in (None, "adamw", torch.optim.SGD, torch.optim.lr_scheduler.StepLR(optimizer, 1), [*model.parameters()]):
        assert refused(arguments.check_optimizer, "heal", "optimizer", value).what == "optimizer is not an optimizer."


def test_flags():
    assert arguments.check_flag("fit", "progress", False) is False
    for value in (None, "yes", 1):
        assert refused(arguments.check_flag, "fit", "progress", value).what == "progress is neither True nor False."


def test_callables():
    takes = "(output, target) -> scalar"
    loss = nn.CrossEntropyLoss()
    assert arguments.check_callable("fit", "loss", loss, takes=takes) is loss
    assert refused(arguments.check_callable, "fit", "loss", "mes", takes=takes).do == f"pass callable{takes}."
    error = refused(arguments.check_callable, "fit", "loss", nn.CrossEntropyLoss, takes=takes)
    assert error.do == "make one first: CrossEntropyLoss()."
    assert error.received == "the class CrossEntropyLoss"


def test_a_long_or_odd_argument_is_shown_in_one_short_line():
    class Odd:
        def __repr__(self):
            raise ValueError

    assert refused(arguments.as_count, "fit", "epochs", Odd()).received == "... (Odd)"
    shown = refused(arguments.as_count, "fit", "epochs", "x\n" * 500).received
    assert len(shown) < 100
    assert "\n" not in shown
    assert refused(arguments.as_count, "fit", "epochs", nn.Linear(2, 2)).received == "a Linear"


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("limits", [{}, {"above": 0}, {"least": 0}, {"most": 1}, {"below": 1}])
def test_a_number_is_finite_whatever_its_limits(value, limits):
    assert "is not a finite number" in refused(arguments.as_number, "fit", "lr", value, **limits).what


def test_the_ends_of_the_limits():
    assert arguments.as_number("fit", "lr", 1, least=1, most=1) == 1
    assert refused(arguments.as_number, "fit", "lr", 1, above=1).do == "pass a number above 1."
    assert arguments.as_seed("fit", "seed", -(2**63)) == -(2**63)
    assert "whole number" in refused(arguments.as_seed, "fit", "seed", -(2**63) - 1).what


def test_of_many_weights_the_first_three_are_named():
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyLinear(3, bias=False))
    assert refused(arguments.check_model, "fit", model).received == "0.weight, 0.bias, 1.weight"
    model.append(nn.LazyLinear(3, bias=False))
    assert refused(arguments.check_model, "fit", model).received == "0.weight, 0.bias, 1.weight and 1 more"


def test_eighty_letters_of_an_argument_are_shown():
    assert refused(arguments.as_count, "fit", "epochs", "x" * 78).received == f"'{'x' * 78}' (str)"
    assert refused(arguments.as_count, "fit", "epochs", "x" * 79).received == f"'{'x' * 79}... (str)"
    assert refused(arguments.as_count, "fit", "epochs", None).received == "None"


@pytest.mark.parametrize("value", [None, 3, b"layer3", ["layer3"]])
def test_a_name_is_a_text(value):
    error = refused(arguments.as_name, "freeze", "through", value)
    assert (error.what, error.where) == ("through is not a name.", "freeze(through=...)")


@pytest.mark.parametrize("text", ["much", "-1", "", "5 PB", "1e9"])
def test_a_size_that_is_none_is_refused(text):
    assert arguments.as_bytes("--max-bytes", "500") == 500
    assert arguments.as_bytes("--max-bytes", "0.5mb") == 500_000
    assert "takes a number of bytes" in refused(arguments.as_bytes, "--max-bytes", text).what
