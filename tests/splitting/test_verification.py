import pytest
import torch

import frostline as fl
from frostline.splitting.verification import Outcome, compare_outcomes
from helpers_splitting import FORWARDS, Net, check, x


def test_features_are_never_written():
    model = Net(FORWARDS["in place on a frozen value"])
    split = check(model, x(4))
    features = split.extract(x())
    kept = [feature.clone() for feature in features]
    split.head(*features)
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))


def outcome(output, gradient=None, buffer=0.0):
    return Outcome({"": output}, {"w": gradient}, {"b": torch.tensor(buffer)})


NAN, INF = float("nan"), float("inf")
SAME = [
    (torch.tensor([1.0, 100.0]), torch.tensor([1.0005, 100.0]), 5e-6), (torch.zeros(0), torch.zeros(0), 0.0),
    (torch.tensor([NAN, INF, 2.0]), torch.tensor([NAN, INF, 2.0]), 0.0), (torch.tensor([3]), torch.tensor([3]), 0.0),
    (torch.tensor([NAN, 100.0]), torch.tensor([NAN, 100.001]), 1e-5), (torch.tensor([1j]), torch.tensor([1j]), 0.0),
]  # fmt: skip
OTHER = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1]), "relative difference"),
    (torch.tensor([NAN, 2.0]), torch.tensor([1.0, 2.0]), "relative difference"),
    (torch.tensor([INF, 2.0]), torch.tensor([-INF, 2.0]), "relative difference"),
    (torch.tensor([3]), torch.tensor([4]), "allowed 0e+00"), (torch.tensor([1j]), torch.tensor([2j]), "relative"),
    (torch.zeros(2), torch.zeros(3), "('torch.float32', (3,)) from the head, ('torch.float32', (2,)) from the model"),
    (torch.zeros(2), torch.zeros(2).double(), "('torch.float64', (2,)) from the head"),
    (torch.tensor([0.0]), torch.tensor([1e-3]), "relative difference 1.0e-03"),
]  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours", "difference"), SAME)
def test_outcomes_may_differ_by_what_kernels_do(theirs, ours, difference):
    found = compare_outcomes(outcome(theirs, theirs), outcome(ours, ours), "train")
    assert found == pytest.approx([difference, difference, 0.0], rel=0.02)


@pytest.mark.parametrize(("theirs", "ours", "received"), OTHER)
def test_outcomes_that_differ_by_more_are_refused(theirs, ours, received):
    one = torch.ones(1)
    for expected, found, where in (
        (outcome(theirs), outcome(ours), "output , in eval mode"),
        (outcome(one, theirs), outcome(one, ours), "gradient w, in eval mode"),
    ):
        with pytest.raises(fl.SplitError, match="does not equal the model") as error:
            compare_outcomes(expected, found, "eval")
        assert error.value.where == where
        assert received in error.value.received


def test_buffers_names_and_missing_gradients_are_compared_too():
    one = torch.ones(1)
    assert compare_outcomes(outcome(one), outcome(one), "train") == [0.0, 0.0, 0.0]
    for expected, found, where in (
        (outcome(one, None), outcome(one, one), "gradient w"), (outcome(one, one), outcome(one, None), "gradient w"),
        (outcome(one, None, 1.0), outcome(one, None, 2.0), "buffer b"),
        (Outcome({"x": one}, {}, {}), Outcome({"y": one}, {}, {}), "outputs"),
    ):  # fmt: skip
        with pytest.raises(fl.SplitError) as error:
            compare_outcomes(expected, found, "train")
        assert error.value.where == f"{where}, in train mode"


def test_where_the_model_fails_the_head_must_fail_too():
    one, failed = outcome(torch.ones(1)), ValueError("too few")
    refused = fl.SplitError(what="w", where="h", received="said before", do="d")
    assert compare_outcomes(failed, RuntimeError("other"), "train") == []
    with pytest.raises(fl.SplitError) as error:
        compare_outcomes(failed, one, "train")
    assert error.value.received == "an output, where the model raises ValueError: too few"
    for found, received in ((failed, "ValueError: too few"), (refused, "said before")):
        with pytest.raises(fl.SplitError) as error:
            compare_outcomes(one, found, "train")
        assert error.value.received == received


def test_stored_features_are_proven_in_the_mode_that_is_asked_for():
    model = Net(FORWARDS["residual"])
    split = check(model, x(4))
    batch = x(7)
    features = split.extract(batch)
    both = split.verify(batch, features)
    assert (both.samples, both.is_exact) == (7, True)
    one = split.verify(batch, features, modes=("train",))
    assert both.compared == 3 * one.compared  # in eval with gradients and without
    with pytest.raises(fl.SplitError, match="does not equal the model") as error:
        split.verify(batch, tuple(feature.flip(0) for feature in features), modes=("eval",))
    assert "in eval mode" in error.value.where
