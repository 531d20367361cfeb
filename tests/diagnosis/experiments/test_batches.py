import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis.experiments.batches import (
    as_batches,
    check_given,
    finite_rows,
    held_out,
    merged,
    num_epochs,
    takes_fewer_rows,
    three_parts,
    usual_rows,
)
from helpers_health import mlp, task


def test_batches_are_kept_in_order_and_cut():
    data = task(10)
    assert [target.tolist() for _, target in as_batches(iter(data), mlp(), 4)] == [t.tolist() for _, t in data[:4]]


def test_the_last_fifth_is_held_out_where_its_rows_are_new():
    data = task(10)
    rest, judged = held_out(data)
    assert all(a[0] is b[0] for a, b in zip([*rest, *judged], data, strict=True))
    assert (len(rest), len(judged)) == (8, 2)


def test_new_rows_can_be_held_out_of_every_batch():
    rest, judged = held_out(task(10), spread=True)
    assert len(judged) > 5
    assert len({len(target) for _, target in rest}) > 1
    taken, kept = ({tuple(row) for x, _ in part for row in x.tolist()} for part in (judged, rest))
    assert not taken & kept


def test_of_rows_that_come_again_a_fifth_is_held_out():
    data = task(5) * 4
    rest, judged = held_out(data)
    rows = [{tuple(row.tolist()) for inputs, _ in part for row in inputs} for part in (rest, judged)]
    assert not rows[0] & rows[1]
    assert len(rows[0] | rows[1]) == sum(len(inputs) for inputs, _ in data[:5])
    assert 0.05 < len(rows[1]) / len(rows[0] | rows[1]) < 0.4
    assert sum(len(inputs) for inputs, _ in judged) == len(rows[1])


def test_few_held_rows_that_would_be_batches_of_their_own_are_spared():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=generator)
    data = [(inputs[torch.randperm(200, generator=generator)[:60]], torch.zeros(60)) for _ in range(30)]
    _, judged = held_out(data)
    assert min(len(own) for own, _ in judged) > 1
    alone = [(one, one[:, 0]) for _ in range(4) for one in inputs.split(1)]
    assert {len(own) for own, _ in held_out(alone)[1]} == {1}


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


def test_how_often_the_usual_input_comes():
    data = task(5)
    assert num_epochs(data) == 1.0
    assert num_epochs(data * 3) == 3.0
    assert num_epochs([*data, data[0]]) == pytest.approx(6 / 5)
    pairs = [((inputs, torch.zeros(())), target) for inputs, target in data]  # what is no row is in none
    assert num_epochs([*pairs, *pairs]) == 2.0


def test_rows_are_told_apart_by_all_of_their_inputs():
    first = torch.ones(4, 2)
    data = [({"a": first, "b": torch.full((4,), at) + torch.arange(4) * 10}, torch.zeros(4)) for at in range(3)]
    assert num_epochs(data) == 1.0


def table(count, times, dtype=torch.float32):
    """A truth table of so many rows that comes again and again, four rows a batch."""
    rows = torch.arange(float(count))[:, None].repeat(1, 3).to(dtype)
    order = torch.cat([torch.randperm(count, generator=torch.Generator().manual_seed(at)) for at in range(times)])
    return [(rows[part], part % 2) for part in order.split(4)]


@pytest.mark.parametrize(("count", "is_few"), [(64, True), (65, False)])
def test_of_few_inputs_each_stands_for_itself(count, is_few):
    data = table(count, 20)
    rest, judged = held_out(data)
    known = {tuple(row.tolist()) for inputs, _ in rest for row in inputs}
    asked = {tuple(row.tolist()) for inputs, _ in judged for row in inputs}
    assert (asked <= known) is is_few
    assert (not asked & known) is not is_few


def test_what_comes_in_the_last_fifth_only_is_trained_on_too():
    data = table(8, 10)
    late = (torch.full((4, 3), 99.0), torch.zeros(4).long())
    data[-2] = late
    rest, judged = held_out(data)
    assert any(batch is late for batch in rest)
    assert len(rest) == len(data) - len(data) // 5 + 1
    assert sum(len(inputs) for inputs, _ in judged) == 4 * (len(data) // 5)


def test_categories_stand_for_themselves_however_many():
    ids = torch.arange(500)
    data = [(part, part % 2) for part in torch.cat([ids, ids, ids]).split(10)]
    rest, judged = held_out(data)
    assert {int(x) for part, _ in judged for x in part} <= {int(x) for part, _ in rest for x in part}
    pairs = [(torch.stack([part, part], 1), target) for part, target in data]  # two numbers are no category
    rest, judged = held_out(pairs)
    assert not {int(x) for part, _ in judged for x in part[:, 0]} & {int(x) for part, _ in rest for x in part[:, 0]}


def test_inputs_that_were_drawn_one_by_one_stand_for_themselves():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(100, 3, generator=generator)
    drawn = torch.randint(100, (1000,), generator=generator)
    rest, judged = held_out([(rows[part], part % 2) for part in drawn.split(10)])
    known = {tuple(row.tolist()) for inputs, _ in rest for row in inputs}
    assert {tuple(row.tolist()) for inputs, _ in judged for row in inputs} <= known


@pytest.mark.parametrize(
    ("model", "given", "loss_fn", "what", "received"),
    [
        (None, [], F.mse_loss, "no model", "NoneType None"),
        (nn.Linear, [], F.mse_loss, "no model", "the class Linear"),
        (nn.Linear(2, 2), 3, F.mse_loss, "cannot be gone through", "int 3"),
        (nn.Linear(2, 2), list, F.mse_loss, "cannot be gone through", "the class list"),
        (nn.Linear(2, 2), [], "mse", "loss cannot be called", "str 'mse'"),
        (nn.Linear(2, 2), [], nn.MSELoss, "loss cannot be called", "the class MSELoss"),
        (nn.Linear(2, 2, device="meta"), [], F.mse_loss, "meta device", "weight, bias"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["checkup", "heal"])
def test_what_a_training_needs_is_asked_for_first(model, given, loss_fn, what, received, where):
    with pytest.raises(fl.DataError, match=what) as error:
        check_given(model, given, loss_fn, where)
    assert error.value.received == received
    assert error.value.where.startswith(where)


def test_only_heal_needs_shapes_that_are_known():
    lazy = nn.LazyLinear(2)
    assert check_given(lazy, [], F.mse_loss, "checkup") is None
    with pytest.raises(fl.DataError, match="without a shape"):
        check_given(lazy, [], F.mse_loss, "heal")

    class Indexed:
        def __getitem__(self, at):
            raise IndexError

    assert check_given(nn.Linear(2, 2), Indexed(), F.mse_loss, "heal") is None


def test_steps_that_are_asked_for_must_be_there():
    assert len(as_batches(task(3), mlp(), 3)) == 3
    with pytest.raises(fl.DataError, match="The batches ran out") as error:
        as_batches(task(3), mlp(), 4)
    assert (error.value.where, error.value.received) == ("steps=4", "3 batches")
    with pytest.raises(fl.DataError, match="too few batches") as error:
        as_batches(task(1), mlp(), 4)
    assert error.value.received == "1 batches"
    x = torch.ones(4, 12, requires_grad=True)
    assert not as_batches([(x * 2, x.sum(1) * 2)] * 2, mlp(), None)[0][1].requires_grad


@pytest.mark.parametrize(("most", "sizes"), [(64, [64, 64, 64, 64, 64]), (100, [96, 96, 96, 32]), (31, [16] * 20)])
def test_joined_batches_are_as_large_as_is_asked(most, sizes):
    assert [len(x) for x, _ in merged(mlp(), task(20), F.cross_entropy, most)] == sizes


def test_rows_out_of_the_data_or_no_numbers_judge_nobody():
    data = task(10)
    data[3][0][2] *= 1e5
    data[4][0][1, 0] = math.nan
    found = usual_rows(data)
    assert [len(inputs) for inputs, _ in found] == [16, 16, 16, 15, 15, 16, 16, 16, 16, 16]
    data[5] = (data[5][0] * math.nan, data[5][1])
    assert len(usual_rows(data)) == 9
    gone = [(inputs * math.nan, target) for inputs, target in data]
    assert len(finite_rows(gone)) == 10  # as they are: nothing else is left


def rows_of(data):
    return {float(value) for inputs, _ in data for value in inputs[:, 0]}


def repeated(distinct=200, epochs=6, size=20):
    values = torch.arange(float(distinct))[:, None].repeat(1, 3)
    orders = [torch.randperm(distinct, generator=torch.Generator().manual_seed(at)) for at in range(epochs)]
    return [(values[part], part % 4) for order in orders for part in order.split(size)]


def test_rows_of_the_verdict_are_neither_trained_on_nor_decided_by():
    data = repeated()
    parts = three_parts(data)
    trained, decides, fresh = parts.trained, parts.decides, parts.fresh
    assert parts.is_apart
    assert 8 <= len(rows_of(fresh)) <= 32  # a tenth of 200
    assert sum(len(inputs) for inputs, _ in fresh) == len(rows_of(fresh))  # each once
    assert not rows_of(fresh) & (rows_of(trained) | rows_of(decides))
    assert rows_of(fresh) | rows_of(trained) == rows_of(data)
    assert len(trained) == len(data) - len(data) // 5


def test_of_new_rows_a_quarter_of_the_last_fifth_is_for_the_verdict():
    data = [(torch.randn(20, 3), torch.zeros(20)) for _ in range(50)]
    parts = three_parts(data)
    trained, decides, fresh = parts.trained, parts.decides, parts.fresh
    assert parts.is_apart
    assert all(one is other for one, other in zip(trained, data[:40], strict=True))
    assert 25 <= len(rows_of(fresh)) <= 75
    assert not rows_of(fresh) & rows_of(decides)
    assert rows_of(fresh) | rows_of(decides) == rows_of(data[40:])


def test_batches_that_cannot_be_divided_and_few_inputs_are_parted_as_a_whole():
    whole = [(torch.randn(4, 3), torch.tensor(1.0)) for _ in range(20)]
    assert sizes(whole) == [16, 2, 2, True]
    few = [(torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, 1.0])) for _ in range(20)]
    assert sizes(few) == [16, 2, 2, False]
    assert sizes(whole[:4])[:3] == [3, 1, 0]  # one batch decides, and none is left


def sizes(data):
    parts = three_parts(data)
    return [len(parts.trained), len(parts.decides), len(parts.fresh), parts.is_apart]


def test_a_model_that_holds_the_edges_of_a_graph_takes_no_part_of_it():
    inputs, target, edges = torch.randn(20, 4), torch.randint(3, (20,)), torch.eye(20)
    layer, known = nn.Linear(4, 3), torch.arange(20) < 10

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, inputs):
            return edges @ self.layer(inputs)

    assert not takes_fewer_rows(Graph(), (inputs, target), F.cross_entropy)
    assert not takes_fewer_rows(layer, (inputs, target), lambda o, t: F.cross_entropy(o[known], t[known]))
    assert takes_fewer_rows(layer, (inputs, target), F.cross_entropy)
    assert takes_fewer_rows(layer, (inputs, target.float()), F.cross_entropy)  # which fails in any case
    data = [(inputs, target)] * 10
    for parts in (held_out(data, divides=False), (three_parts(data, divides=False).trained,)):
        assert all(len(target) == 20 for part in parts for _, target in part)
