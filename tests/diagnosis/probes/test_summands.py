import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.experiments.observer import trainable_weights
from frostline.diagnosis.probes.summands import summands_of
from helpers_health import mlp, sgd, task


def terms_of(loss_fn, model=None, steps=20):
    model, data = model or mlp(), task(steps)
    start, optimizer = trainable_weights(model), sgd(model)
    for inputs, target in data:
        optimizer.zero_grad()
        loss_fn(model(inputs), target).backward()
        optimizer.step()
    return summands_of(model, start, data, loss_fn)


def size_of(output):
    return output.square().mean()


def test_each_term_has_its_value_its_share_of_the_gradient_and_its_line():
    def loss_fn(output, target):
        return F.cross_entropy(output, target) + 1e-4 * size_of(output)

    first, second = terms_of(loss_fn)
    assert first.slope == 1.0
    assert second.slope < 1e-2
    assert first.last < first.first
    assert "`cross_entropy` in line" in first.name
    assert "1e-4 * size_of(output)" in first.name
    assert "`mean`" in second.name or "`square`" in second.name


def test_a_number_that_changes_with_the_weights_is_a_term_without_a_gradient():
    both = terms_of(lambda output, target: F.cross_entropy(output, target) + size_of(output).item())
    assert [one.slope is None for one in both] == [False, True]
    assert terms_of(lambda output, target: F.cross_entropy(output, target) + 3.0) == ()


@pytest.mark.parametrize(
    "loss_fn",
    [
        F.cross_entropy,
        lambda output, target: (output - F.one_hot(target, 3)).square().mean(),
        lambda output, target: F.cross_entropy(output, target) * (1 + size_of(output)),
    ],
)
def test_a_loss_that_is_no_sum_has_no_terms(loss_fn):
    assert terms_of(loss_fn) == ()


def test_sums_of_rows_lists_and_stacks_are_taken_apart():
    def by_row(output, target):
        return (F.cross_entropy(output, target, reduction="none") + output.square().sum(1)).mean()

    def stacked(output, target):
        return torch.stack([F.cross_entropy(output, target), size_of(output), output.abs().mean()]).mean()

    def summed(output, target):
        return sum([F.cross_entropy(output, target), size_of(output), -output.abs().mean()])

    assert [len(terms_of(one)) for one in (by_row, stacked, summed)] == [2, 3, 3]


def test_a_term_that_is_mostly_absent_and_one_of_the_weights_alone():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.calls = mlp(), 0

        def forward(self, inputs):
            return self.body(inputs)

    model = Named()

    def loss_fn(output, target):
        is_rare = (output.detach().sum(1) > 1e9).float()
        return F.cross_entropy(output, target) + (is_rare * output.sum(1)).mean()

    assert [one.rare for one in terms_of(loss_fn, model)] == [0.0, 1.0]
    weight = model.body[0].weight
    _, penalty = terms_of(lambda output, target: F.cross_entropy(output, target) + weight.square().sum(), model)
    assert not penalty.is_of_rows
    error, of_outputs = terms_of(lambda output, target: F.cross_entropy(output, target) + size_of(output))
    assert error.is_of_rows
    assert not of_outputs.is_of_rows


def test_terms_that_work_against_each_other_have_opposite_gradients():
    def loss_fn(output, target):
        return F.cross_entropy(output, target) - 0.5 * F.cross_entropy(output, target)

    assert [round(one.against) for one in terms_of(loss_fn)] == [-1, -1]
