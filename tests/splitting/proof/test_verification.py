import pytest
import torch
import torch.nn.functional as F
from torch import nn

import frostline as fl
from frostline.core.restore import kept_parameters
from frostline.splitting.proof.verification import Outcome, _move, compare_outcomes, verify_head
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
        (outcome(theirs), outcome(ours), "output, in eval mode"),
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


class Stub(nn.Module):
    """Stands for a head, which is right or wrong in a way that a test chooses."""

    def __init__(self, model, run):
        super().__init__()
        self.model, self._run = [model], run
        self.weight, self.shift = model.high.weight.detach().clone(), model.shift.clone()

    def recorded(self, low):
        return self._run(self, self.model[0], low)


def shifting():
    model = Net(lambda m, batch: m.high(m.low(batch)) + m.shift)
    model.register_buffer("shift", torch.ones(8))
    return model


def right(h, m, low):
    return m.high(low) + m.shift


def verified(model, run, *, moved=frozenset(), modes=("train", "eval"), **options):
    batch = x(4)
    features = (model.low(batch).detach(),)
    return verify_head(model, Stub(model, run), features, model, batch, modes, moved, **options)


WRONG = {
    "weights of before": (lambda h, m, low: F.linear(low, h.weight, m.high.bias) + m.shift, "output, in train"),
    "twice the gradient": (lambda h, m, low: right(h, m, low) * 2 - right(h, m, low).detach(), "gradient high.weight"),
    "no gradient of one weight": (lambda h, m, low: F.linear(low, m.high.weight.detach(), m.high.bias) + m.shift,
                                  "gradient high.weight"),
    "another output in training": (lambda h, m, low: right(h, m, low) + int(h.training), "output, in train mode"),
    "another output in evaluation": (lambda h, m, low: right(h, m, low) + int(not h.training), "output, in eval mode"),
    "another output without gradients": (lambda h, m, low: right(h, m, low) + int(not torch.is_grad_enabled()),
                                         "in eval (without gradients) mode"),
    "another buffer": (lambda h, m, low: (right(h, m, low), m.seen.add_(1))[0], "buffer seen"),
    "noise": (lambda h, m, low: right(h, m, low) + 1e-2 * torch.rand(()), "output, in train"),
    "rows in another order": (lambda h, m, low: right(h, m, low).flip(0), "output, in train"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_head_that_is_wrong_in_one_way_is_refused_by_where_it_is(name):
    run, where = WRONG[name]
    with pytest.raises(fl.SplitError, match="does not equal the model") as error:
        verified(shifting(), run)
    assert where in error.value.where


def test_a_head_that_writes_into_its_features_is_refused():
    with pytest.raises(fl.SplitError, match="writes into its features"):
        verified(shifting(), lambda h, m, low: (right(h, m, low), low.mul_(2))[0], has_backward=False, modes=("eval",))


def test_a_proof_without_gradients_looks_at_outputs_and_buffers_alone():
    doubled, _ = WRONG["twice the gradient"]
    found = verified(shifting(), doubled, has_backward=False)
    assert found.is_exact
    assert found.compared < verified(shifting(), right).compared


def test_buffers_that_training_moves_are_moved_in_the_proof():
    def run(h, m, low):
        return m.high(low) + h.shift  # as it was

    assert verified(shifting(), run).is_exact
    with pytest.raises(fl.SplitError, match="does not equal the model"):
        verified(shifting(), run, moved=frozenset(["shift"]))
    counting = shifting()
    counting._forward = lambda m, batch: m.high(m.low(batch)) + m.seen
    assert verified(counting, lambda h, m, low: m.high(low)).is_exact
    with pytest.raises(fl.SplitError, match="does not equal the model"):
        verified(counting, lambda h, m, low: m.high(low), moved=frozenset(["seen"]))


def test_a_proof_leaves_everything_as_it_was():
    model = shifting()
    model.high.weight.grad = gradient = torch.ones(8, 8)
    model.high.eval()
    kept = {name: own.clone() for name, own in model.state_dict().items()}
    torch.manual_seed(3)
    x(4)  # the batch of the proof
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert verified(model, right, moved=frozenset(["shift", "seen"])).is_exact
    assert all(torch.equal(own, kept[name]) for name, own in model.state_dict().items())
    assert model.high.weight.grad is gradient
    assert (model.training, model.high.training) == (True, False)
    assert torch.equal(torch.rand(1), expected)


def test_what_a_layer_has_left_elsewhere_is_that_of_another_batch():
    left = {}

    def forward(m, batch):
        left["low"] = m.low(batch)
        return m.high(m.low(batch)) + m.shift + left["low"].detach()

    def run(h, m, low):
        return right(h, m, low) + left["low"].detach()

    model = shifting()
    model._forward = forward
    assert verified(model, run).is_exact
    with pytest.raises(fl.SplitError, match="does not equal the model"):
        verified(model, run, between=x(4))


def test_a_model_of_which_no_output_trains_is_refused():
    model = Net(lambda m, batch: m.high(m.low(batch)).detach())
    model.register_buffer("shift", torch.zeros(8))
    with pytest.raises(fl.SplitError, match="No output of the model depends on a trainable weight"):
        verified(model, lambda h, m, low: m.high(low).detach())


def test_every_number_of_a_large_weight_moves_and_no_two_rows_alike():
    model = nn.Linear(300, 1000, bias=False)
    before = model.weight.detach().clone()
    with kept_parameters(model):
        _move(model, frozenset())
        moved = model.weight.detach() - before
    assert torch.equal(model.weight, before)
    share = moved / (0.05 * before.abs().mean())
    assert (share != 0).float().mean() > 0.999
    assert (share.mean().abs() < 0.02, abs(share.std() - 1) < 0.02) == (True, True)
    assert len({tuple(row.tolist()) for row in share[:, :8]}) == 1000
