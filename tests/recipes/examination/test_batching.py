import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.recipes.examination.batching import as_batches, finite_rows, held_out, merged
from helpers_health import mlp, task


def test_batches_are_kept_in_order_and_cut():
    data = task(10)
    assert [target.tolist() for _, target in as_batches(iter(data), mlp(), 4)] == [t.tolist() for _, t in data[:4]]


def test_the_last_fifth_is_held_out_where_its_rows_are_new():
    data = task(10)
    rest, judged = held_out(data)
    assert all(a[0] is b[0] for a, b in zip([*rest, *judged], data, strict=True))
    assert (len(rest), len(judged)) == (8, 2)


def test_of_rows_that_come_again_a_fifth_is_held_out():
    data = task(5) * 4
    rest, judged = held_out(data)
    rows = [{tuple(row.tolist()) for inputs, _ in part for row in inputs} for part in (rest, judged)]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == sum(len(inputs) for inputs, _ in data[:5])
    assert 0.05 < len(rows[1]) / len(rows[0] | rows[1]) < 0.4
    assert sum(len(inputs) for inputs, _ in judged) == len(rows[1])


def test_nobody_is_judged_by_rows_that_are_not_finite():
    data = task(3)
    data[1][0][2, 0] = math.nan
    found = finite_rows(data)
    assert [len(inputs) for inputs, _ in found] == [len(data[0][0]), len(data[1][0]) - 1, len(data[2][0])]
    assert torch.equal(found[1][1], torch.cat([data[1][1][:2], data[1][1][3:]]))


@pytest.mark.parametrize("given", [[], task(1)])
def test_too_few_batches_are_refused(given):
    with pytest.raises(fl.DataError, match="There are too few batches"):
        as_batches(given, mlp(), None)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(fl.DataError, match="The model has no parameters: there is nothing to check"):
        as_batches(task(3), nn.ReLU(), None)


@pytest.mark.parametrize(("change", "place"), [
    (lambda x, y: (x.to_sparse(), y), "batch 2, inputs\n"),
    (lambda x, y: ({"x": x.to_sparse()}, y), "batch 2, inputs, x\n"),
    (lambda x, y: (x, x.to_sparse()), "batch 2, target\n"),
])  # fmt: skip
def test_sparse_batches_are_refused(change, place):
    data = task(4)
    data[2] = change(*data[2])
    with pytest.raises(fl.DataError, match="A batch holds a sparse tensor") as caught:
        as_batches(data, mlp(), None)
    assert place in str(caught.value)


def test_another_fold_holds_out_other_rows():
    data = task(5) * 4
    rows = [{tuple(row.tolist()) for inputs, _ in held_out(data, fold)[1] for row in inputs} for fold in (0, 1)]
    assert rows[0]
    assert rows[1]
    assert not rows[0] & rows[1]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64, torch.complex64, torch.bool, torch.int32])
def test_rows_of_any_kind_are_told_apart(kind):
    data = [(torch.arange(8).reshape(4, 2).to(kind) * (at + 1), torch.zeros(4)) for at in range(2)] * 5
    rest, judged = held_out(data)
    assert rest
    assert judged


def test_targets_that_are_not_of_a_row_stay():
    data = [(inputs, {"label": target, "weight": torch.tensor(2.0)}) for inputs, target in task(5)] * 4
    rest, judged = held_out(data)
    assert all(target["weight"] == 2.0 for _, target in [*rest, *judged])
    assert all(len(target["label"]) == len(inputs) for inputs, target in judged)


@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("kind", [list, tuple])
def test_targets_in_lists_keep_to_their_rows(kind, times):
    data = [(inputs, kind(inputs[:, 0].tolist())) for inputs, _ in task(5)]
    data[-1][0][3, 1] = 1e4
    rest, judged = held_out(data * times)
    assert sum(len(inputs) for inputs, _ in judged) > 0
    for inputs, target in [*rest, *judged]:
        assert isinstance(target, kind)
        assert list(target) == inputs[:, 0].tolist()
    assert max(float(inputs.abs().max()) for inputs, _ in judged) < 1e4


def test_a_list_of_tensors_is_no_list_of_rows():
    data = [(torch.randn(2, 3), [torch.randn(2, 1), torch.randn(2)]) for _ in range(3)]
    data[1][0][0, 0] = math.nan
    first, second = finite_rows(data)[1][1]
    assert torch.equal(first, data[1][1][0][1:])
    assert torch.equal(second, data[1][1][1][1:])


@pytest.mark.parametrize("target", [torch.ones(7), 3.0, [1, 2]])
def test_a_batch_with_one_target_for_all_rows_stays_whole(target):
    data = [(inputs, target) for inputs, _ in task(5)]
    data[-1][0][3, 1] = math.nan
    assert all(a[0] is b[0] for a, b in zip(finite_rows(data), data, strict=True))
    rest, judged = held_out(data * 4)
    assert all(len(inputs) == len(data[0][0]) for inputs, _ in [*rest, *judged])


def test_a_batch_without_a_target_can_be_divided():
    data = [(inputs, None) for inputs, _ in task(5)]
    data[-1][0][3, 1] = math.nan
    assert len(finite_rows(data)[-1][0]) == len(data[-1][0]) - 1


def test_batches_to_score_by_are_joined():
    data = task(20)
    joined = merged(mlp(), data, F.cross_entropy)
    assert len(joined) < 20
    assert torch.equal(torch.cat([x for x, _ in joined]), torch.cat([x for x, _ in data]))
    assert torch.equal(torch.cat([y for _, y in joined]), torch.cat([y for _, y in data]))


class OverTheBatch(nn.Module):
    """Answers depend on who else is in the batch."""

    def forward(self, x):
        return x - x.mean(0)


class Shapeless(nn.Module):
    def forward(self, x):
        return {"logits": x}


class Tied(nn.Module):
    def forward(self, x):
        return x.view(16, 12)[:, :3]


class Pairs(nn.Module):
    def forward(self, x):
        return x @ x.T


def test_a_loss_that_compares_the_samples_of_a_batch_keeps_its_batches():
    data = [(inputs, torch.arange(len(inputs))) for inputs, _ in task(6)]
    assert merged(nn.Identity(), data, lambda out, y: F.cross_entropy(out @ out.T, y)) == data


@pytest.mark.parametrize("model", [OverTheBatch(), Shapeless(), Tied(), Pairs()])
def test_where_joining_changes_answers_batches_stay(model):
    data = task(6)
    assert [len(x) for x, _ in merged(model, data, F.cross_entropy)] == [len(x) for x, _ in data]


@pytest.mark.parametrize("data", [
    [({"a": torch.ones(2, 3)}, torch.ones(2))] * 3,
    [(torch.ones(2, 3), torch.ones(2)), (torch.ones(2, 4), torch.ones(2))],
    [(torch.ones(5, 2, 3), torch.ones(2))] * 3,
    [(torch.tensor(1.0), torch.tensor(1.0))] * 3,
    [(torch.ones(2, 3), torch.ones(2))],
])  # fmt: skip
def test_batches_that_cannot_be_joined_stay(data):
    assert merged(nn.Identity(), data, F.mse_loss) == data
