"""Solved output layers against scikit-learn, and against what training comes to."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

import frostline as fl
from frostline.selection import closed_form
from frostline.selection.closed_form import solve_linear_head
from frostline.training import make_loss, num_counted, output_of

N, D, C = 300, 7, 3


def rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(N, D, generator=generator) * torch.logspace(-2, 2, D) + torch.arange(D) * 10
    z_ND = (x_ND - x_ND.mean(0)) / x_ND.std(0)
    y_N = (z_ND[:, :C] + 0.7 * torch.randn(N, C, generator=generator)).argmax(1)
    return x_ND, y_N


class Data:
    """Batches as often as asked."""

    def __init__(self, x_ND, y_N, size=64):
        self.x, self.y, self.size, self.passes = x_ND, y_N, size, 0

    def __iter__(self):
        self.passes += 1
        return iter([((x,), y) for x, y in zip(self.x.split(self.size), self.y.split(self.size), strict=True)])


def solve(head, data, loss="cross_entropy", **options):
    return solve_linear_head(
        head, data, loss=make_loss(loss), is_squared=loss == "mse", counted=lambda target: num_counted(loss, target),
        pick=output_of, **options,
    )  # fmt: skip


def standardised(x_ND):
    return ((x_ND - x_ND.mean(0)) / x_ND.std(0, correction=0)).double().numpy()


@pytest.mark.parametrize("decay", [None, 0.1, 1e-3])
@pytest.mark.parametrize("bias", [True, False])
def test_classes_are_solved_as_scikit_learn_does(decay, bias):
    x_ND, y_N = rows()
    x_ND = x_ND if bias else x_ND - x_ND.mean(0)
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, C, bias=bias))
    found = solve(head, Data(x_ND, y_N), weight_decay=decay)
    assert found.is_converged
    assert (found.layer, found.num_rows) == ("1", N)
    theirs = LogisticRegression(C=1 / (N * (decay or 1 / N)), tol=1e-8, max_iter=5000, fit_intercept=bias)
    theirs.fit(standardised(x_ND), y_N.numpy())
    wanted = torch.from_numpy(theirs.predict_log_proba(standardised(x_ND))).float()
    found.put_into(head)
    torch.testing.assert_close(head.eval()(x_ND).log_softmax(1), wanted, rtol=1e-3, atol=2e-3)
    assert found.loss == pytest.approx(float(F.nll_loss(wanted, y_N)), rel=1e-4)


def test_features_of_training_mode_are_normalised_by_their_batch_and_have_no_dropout():
    x_ND, y_N = rows()
    norm = nn.BatchNorm1d(D, affine=False)
    head = nn.Sequential(norm, nn.Dropout(0.9), nn.Linear(D, C))
    found = solve(head, Data(x_ND, y_N, size=N), in_training=True)
    fresh = nn.BatchNorm1d(D, affine=False)
    wanted = solve(nn.Linear(D, C), Data(fresh(x_ND), y_N, size=N))
    torch.testing.assert_close(found.weight, wanted.weight)
    assert all(module.training for module in head.modules())  # modes are as before


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("decay", [None, 0.5, 0.0])
def test_numbers_are_solved_as_scikit_learn_does(outputs, decay):
    x_ND, _ = rows()
    y = torch.randn(N, outputs, generator=torch.Generator().manual_seed(1)) + x_ND[:, :1] * 0.1
    head = nn.Linear(D, outputs)
    found = solve(head, Data(x_ND, y[:, 0] if outputs == 1 else y), "mse", weight_decay=decay)
    own = 1 / N if decay is None else decay
    theirs = Ridge(alpha=own * outputs / 2 * N, solver="cholesky").fit(standardised(x_ND), y.numpy())
    found.put_into(head)
    wanted = theirs.predict(standardised(x_ND)).reshape(N, outputs)
    np.testing.assert_allclose(head(x_ND).detach().numpy(), wanted, rtol=1e-3, atol=1e-3)
    assert found.steps == 0


def test_no_gradient_is_left():
    """The penalised mean loss has no slope at the solution, whichever way it was found."""
    x_ND, y_N = rows()
    z_ND = torch.from_numpy(standardised(x_ND)).float()
    for loss, outputs, target in (("mse", 2, F.one_hot(y_N, C)[:, :2].float()), ("cross_entropy", C, y_N),
                                  ("bce", C, F.one_hot(y_N, C).float())):  # fmt: skip
        head = nn.Linear(D, outputs)
        solve(head, Data(z_ND, target), loss, weight_decay=0.05).put_into(head)
        (make_loss(loss)(head(z_ND), target) + 0.025 * head.weight.square().sum()).backward()
        assert float(head.weight.grad.abs().max()) < 1e-4
        assert float(head.bias.grad.abs().max()) < 1e-4


def test_the_layer_is_solved_behind_what_stands_before_it():
    x_ND, y_N = rows()
    torch.manual_seed(0)
    head = nn.Sequential(nn.BatchNorm1d(D), nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, C)).train()
    state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    found = solve(head, Data(x_ND, y_N))
    assert found.layer == "3"
    assert all(torch.equal(tensor, state[name]) for name, tensor in head.state_dict().items())
    assert head.training
    found.put_into(head)
    assert F.cross_entropy(head.eval()(x_ND), y_N).item() == pytest.approx(found.loss, rel=1e-4)


def test_rows_beyond_the_memory_are_read_again(monkeypatch):
    x_ND, y_N = rows()
    kept, again = Data(x_ND, y_N), Data(x_ND, y_N)
    wanted = solve(nn.Linear(D, C), kept)
    monkeypatch.setattr(closed_form, "_IN_MEMORY", 100)
    found = solve(nn.Linear(D, C), again)
    torch.testing.assert_close(found.weight, wanted.weight)
    assert kept.passes == 2  # the first batch shows the layer
    assert again.passes > 10


def test_constant_features_and_ignored_labels_are_harmless():
    x_ND, y_N = rows()
    x_ND[:, 2] = 5.0
    y_N[:50] = -100
    found = solve(nn.Linear(D, C), Data(x_ND, y_N))
    assert found.num_rows == N - 50
    assert bool(torch.isfinite(found.weight).all())
    assert float(found.weight[:, 2].abs().max()) == 0


@pytest.mark.parametrize(
    ("head", "x", "y", "text"),
    [(nn.Sequential(nn.Linear(D, C), nn.Softmax(1)), None, None, "Only a linear output layer can be solved for"),
     (nn.Linear(D, C), torch.randn(N, 4, D), None, "The inputs of the output layer are no vectors"),
     (nn.Linear(D, C), None, torch.ones(N, dtype=torch.int64), "All rows are of one class: there is nothing to solve"),
     (nn.Linear(D, C), None, torch.full((N,), -100), "No row has a label: there is nothing to solve for"),
     (nn.Linear(D, C), torch.full((N, D), float("inf")), None, "Features or targets are not finite"),
     (nn.Linear(D, 1), None, torch.full((N,), float("nan")), "Features or targets are not finite")],
)  # fmt: skip
def test_what_cannot_be_solved_is_named(head, x, y, text):
    x_ND, y_N = rows()
    with pytest.raises(fl.DataError, match=text):
        solve(head, Data(x_ND if x is None else x, y_N if y is None else y))
