import pytest
import torch
from torch.nn import functional as F

from frostline.diagnosis.probes.loss_sum import terms_of
from helpers_health import mlp, task


def found(loss_fn, *, has_gradients=True):
    model = mlp()
    weights = list(model.parameters()) if has_gradients else []
    return terms_of(model, weights, task(1)[0], loss_fn)


def size_of(output):
    return output.square().mean()


def test_values_add_up_to_the_loss_and_gradients_to_its_gradient():
    def loss_fn(output, target):
        return F.cross_entropy(output, target) - 0.5 * size_of(output) + 2.0

    terms = found(loss_fn)
    model, (inputs, target) = mlp(), task(1)[0]
    loss = loss_fn(model(inputs), target)
    whole = torch.cat([one.flatten() for one in torch.autograd.grad(loss, list(model.parameters()))])
    assert sum(one.value for one in terms) == pytest.approx(float(loss.detach()), rel=1e-5)
    assert [one.is_constant for one in terms] == [False, False, True]
    assert terms[2].value == 2.0
    torch.testing.assert_close(sum(one.gradient for one in terms[:2]), whole, rtol=1e-4, atol=1e-6)


def test_names_are_of_the_call_and_its_line():
    def loss_fn(output, target):
        return F.cross_entropy(output, target) + 1e-4 * size_of(output)

    first, second = found(loss_fn)
    assert "`cross_entropy` in line" in first.name
    assert "1e-4 * size_of(output)" in first.name
    assert "`mean`" in second.name or "`square`" in second.name


@pytest.mark.parametrize(
    "loss_fn",
    [
        F.cross_entropy,
        lambda output, target: (output - F.one_hot(target, 3)).square().mean(),
        lambda output, target: F.cross_entropy(output, target) * (1 + size_of(output)),
    ],
)
def test_a_loss_that_is_no_sum_has_no_terms(loss_fn):
    assert found(loss_fn) == []


def test_sums_of_rows_lists_and_stacks_are_taken_apart():
    def by_row(output, target):
        return (F.cross_entropy(output, target, reduction="none") + output.square().sum(1)).mean()

    def stacked(output, target):
        return torch.stack([F.cross_entropy(output, target), size_of(output), output.abs().mean()]).mean()

    def summed(output, target):
        return sum([F.cross_entropy(output, target), size_of(output), -output.abs().mean()])

    assert [len(found(one)) for one in (by_row, stacked, summed)] == [2, 3, 4]  # a sum of Python begins with 0


def test_gradients_are_computed_where_they_are_asked():
    terms = found(lambda output, target: F.cross_entropy(output, target) + size_of(output), has_gradients=False)
    assert [one.gradient for one in terms] == [None, None]
