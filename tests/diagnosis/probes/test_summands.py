from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.experiments.observer import trainable_weights
from frostline.diagnosis.probes.summands import summands_of
from helpers_health import mlp, sgd, task


def summands(loss_fn, model=None, steps=20):
    model, data = model or mlp(), task(steps)
    start, optimizer = trainable_weights(model), sgd(model)
    for inputs, target in data:
        optimizer.zero_grad()
        loss_fn(model(inputs), target).backward()
        optimizer.step()
    return summands_of(model, start, data, loss_fn)


def size_of(output):
    return output.square().mean()


def test_each_term_has_its_value_and_its_share_of_the_gradient():
    def loss_fn(output, target):
        return F.cross_entropy(output, target) + 1e-4 * size_of(output)

    first, second = summands(loss_fn)
    assert first.slope == 1.0
    assert second.slope < 1e-2
    assert first.last < first.first


def test_a_number_that_changes_with_the_weights_is_a_term_without_a_gradient():
    both = summands(lambda output, target: F.cross_entropy(output, target) + size_of(output).item())
    assert [one.slope is None for one in both] == [False, True]
    assert summands(lambda output, target: F.cross_entropy(output, target) + 3.0) == ()


def test_a_loss_of_one_term_has_none_to_compare():
    assert summands(F.cross_entropy) == ()


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

    assert [one.rare for one in summands(loss_fn, model)] == [0.0, 1.0]
    weight = model.body[0].weight
    _, penalty = summands(lambda output, target: F.cross_entropy(output, target) + weight.square().sum(), model)
    assert not penalty.is_of_rows
    error, of_outputs = summands(lambda output, target: F.cross_entropy(output, target) + size_of(output))
    assert error.is_of_rows
    assert not of_outputs.is_of_rows


def test_terms_that_work_against_each_other_have_opposite_gradients():
    def loss_fn(output, target):
        return F.cross_entropy(output, target) - 0.5 * F.cross_entropy(output, target)

    assert [round(one.against) for one in summands(loss_fn)] == [-1, -1]
