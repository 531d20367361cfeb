import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis.experiments.batches import held_out
from frostline.diagnosis.probes.outliers import facts_of_outliers, facts_of_targets, outlying_rows
from helpers_health import mlp, sgd, task


def regression(count=40, size=16):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count * size, 12, generator=generator)
    target = inputs[:, :1] - inputs[:, 1:2]
    return list(zip(inputs.split(size), target.split(size), strict=True))


def test_rows_in_another_unit_are_found():
    data = task(10)
    data[3][0][5] *= 300
    odd = outlying_rows(data)
    assert [rows.nonzero().flatten().tolist() for rows in odd] == [[], [], [], [5], *[[]] * 6]
    facts = facts_of_outliers(data)
    assert (facts.what, facts.step, facts.samples) == ("input", 3, (5,))
    assert 50 < facts.ratio < 1000
    assert facts.share == pytest.approx(1 / sum(len(inputs) for inputs, _ in data))


def test_targets_count_from_their_middle():
    data = regression()
    data[2][1][7] = 500.0
    shifted = [(inputs, target + 1000) for inputs, target in data]
    for given in (data, shifted):
        assert facts_of_outliers(given).what == "target"
        assert outlying_rows(given)[2].nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("part", [0, 1])
def test_values_that_are_no_numbers_are_out_of_the_data(part):
    data = regression()
    data[2][part][7] = math.nan
    assert outlying_rows(data)[2].nonzero().flatten().tolist() == [7]
    assert facts_of_outliers(data) is None  # how large is not known


def test_many_are_what_the_data_are_like():
    data = regression()
    for inputs, target in data:
        inputs[:2] *= 300
        target[:4] = math.nan  # the loss leaves those out
    assert facts_of_outliers(data) is None
    assert not any(rows.any() for rows in outlying_rows(data))


def test_classes_words_and_sparse_rows_have_no_outliers():
    words = [(torch.randint(50, (8, 6)), torch.randint(3, (8,))) for _ in range(4)]
    assert facts_of_outliers(words) is None
    rare = [(torch.eye(8)[:, :1] * 9.0, torch.zeros(8)) for _ in range(4)]  # the usual row is zero
    assert facts_of_outliers(rare) is None


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0, 1.0)])
def test_labels_written_as_numbers_have_no_unit(values):
    chosen = torch.tensor(values)[torch.randint(len(values), (32, 1))]
    data = [(torch.randn(8, 3), target) for target in chosen.split(8)]
    assert facts_of_targets(data) is None
    assert facts_of_targets([(inputs, target * 2) for inputs, target in data]) is not None


def soft(shape, kind=torch.float32):
    """Shares of classes, most of them next to nothing, a few near 1."""
    generator = torch.Generator().manual_seed(1)
    shares = [(3 * torch.randn(16, *shape, generator=generator)).softmax(1).to(kind) for _ in range(20)]
    return [(torch.randn(16, 3, generator=generator), share) for share in shares]


@pytest.mark.parametrize("data", [soft((200,)), soft((200,), torch.float16), soft((50, 3, 3)), [
    (inputs, target.movedim(1, -1)) for inputs, target in soft((50, 4))
]])  # fmt: skip
def test_soft_labels_have_no_unit(data):
    assert facts_of_outliers(data) is None
    assert facts_of_targets(data) is None
    assert not any(rows.any() for rows in outlying_rows(data))


def test_soft_labels_that_are_broken_are_found():
    data = soft((200,))
    data[2][1][7] *= 1000
    data[3][1][8, 0] = math.nan
    assert facts_of_outliers(data).samples == (7,)
    assert [rows.nonzero().flatten().tolist() for rows in outlying_rows(data)[2:4]] == [[7], [8]]
    assert facts_of_targets(data) is None


def test_targets_of_one_value_that_is_often_one_are_no_shares():
    data = regression()
    for _, target in data:
        target[:] = 1 + 1e-3 * target
    assert facts_of_targets(data).mean == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("times", [1, 4])
def test_they_stay_in_training_and_nobody_is_judged_by_them(times):
    data = task(10)
    for inputs, _ in data:
        inputs[0] *= 300 if inputs is data[-1][0] or inputs is data[0][0] else 1
    for fold in range(5):
        rest, judged = held_out(data * times, fold)
        assert max(float(inputs.abs().max()) for inputs, _ in judged) < 50
        assert max(float(inputs.abs().max()) for inputs, _ in rest) > 50


def test_rare_targets_in_a_wrong_unit_are_the_cause():
    data = regression(60) * 2
    data[1][1][3] = 300.0
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 1))
    diagnosis = fl.checkup(model, data, F.mse_loss, sgd(model, lr=0.02))
    assert diagnosis.cause == "gradient_spikes"
    first = diagnosis.findings[0]
    assert "a target far out of the data" in first.why
    assert "batch 1 has them at 3" in first.why
    assert first.advice.startswith("look at those samples")


def test_rows_that_do_no_harm_are_told():
    data = task(100)
    data[3][0][5] *= 30
    model = mlp()
    diagnosis = fl.checkup(model, data, F.cross_entropy, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert diagnosis.is_healthy
    (finding,) = [finding for finding in diagnosis.findings if finding.code == "FL103"]
    assert "batch 3 has them at 5" in finding.why


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0)])
def test_labels_are_no_values(values):
    target = torch.tensor(values).repeat(8)[:, None]
    assert facts_of_targets([(torch.randn(16, 3), target)]) is None
    assert facts_of_targets([(torch.randn(16, 3), 2 * target)]) is not None


@pytest.mark.parametrize(("part", "count", "is_out"), [(0, 2, True), (1, 2, False), (1, 0, True)])
def test_targets_that_are_often_nan_are_not_asked_and_inputs_never_may_be(part, count, is_out):
    data = regression()  # 16 rows in each batch
    for batch in data:
        batch[part][:count] = math.nan
    data[3][part][7] = math.nan
    assert bool(outlying_rows(data)[3][7]) is is_out


def test_an_infinite_row_does_not_hide_a_large_one_and_is_none_itself():
    data = [(1e-3 * inputs, 1e-3 * target) for inputs, target in regression()]
    data[2][0][7] = math.inf
    data[4][0][1] = math.nan
    assert facts_of_outliers(data) is None
    data[5][0][3] *= 100
    facts = facts_of_outliers(data)
    assert (facts.step, facts.samples) == (5, (3,))
    assert 50 < facts.ratio < 200


def test_of_many_rows_the_first_sixteen_are_named():
    data = [(torch.randn(100, 3), torch.zeros(100, 1)) for _ in range(5)]
    data[1][0][20:40] *= 1000
    assert facts_of_outliers(data).samples == tuple(range(20, 36))


def test_inputs_count_from_zero():
    data = [(inputs + 1000, target) for inputs, target in regression()]
    data[2][0][7] += 100
    assert facts_of_outliers(data) is None


@pytest.mark.parametrize("shape", [(), (1,), (2,), (2, 3)])
def test_targets_of_any_shape_may_be_out_of_the_data(shape):
    data = [(torch.randn(16, 3), torch.randn(16, *shape)) for _ in range(20)]
    data[4][1][9] += 500
    facts = facts_of_outliers(data)
    assert (facts.what, facts.step, facts.samples) == ("target", 4, (9,))
    assert outlying_rows(data)[4].nonzero().flatten().tolist() == [9]
    assert abs(facts_of_targets(data).mean) < 0.2  # of the usual rows


def test_mean_and_deviation_are_those_of_all_values():
    data = [(torch.zeros(2, 1), torch.tensor([[2.0], [6.0]]))]
    assert (facts_of_targets(data).mean, facts_of_targets(data).deviation) == (4.0, 2.0)
    for constant in (torch.full((2, 1), 3.0), torch.tensor([[5.0]])):
        assert facts_of_targets([(torch.zeros(len(constant), 1), constant)]) is None


def test_targets_that_belong_to_no_row_do_not_count():
    plain = regression(4)
    none = (None, torch.tensor(900.0), 700 + torch.arange(16), torch.full((3,), 500.0), {"y": torch.ones(16)})
    odd = [(torch.randn(16, 12), target) for target in none]
    assert facts_of_targets([*plain, *odd]) == facts_of_targets(plain)
    for target in (None, torch.arange(16), {"y": torch.ones(16)}, torch.full((3,), 500.0), torch.tensor(9.0)):
        assert facts_of_targets([(torch.randn(16, 12), target)]) is None


def test_batches_that_lack_a_tensor_leave_it_out_for_all():
    data = [({"x": torch.randn(8, 2), "extra": torch.randn(8)}, torch.zeros(8)) for _ in range(10)]
    data[2][0]["x"][3] *= 1000
    data[4][0]["extra"][1] = 1e4
    assert [rows.nonzero().flatten().tolist() for rows in outlying_rows(data)[2:5]] == [[3], [], [1]]
    for other in (None, torch.tensor(1.0), torch.zeros(3), torch.zeros(8).long(), torch.zeros(8, 0)):
        data[7][0]["extra"] = other
        assert [rows.nonzero().flatten().tolist() for rows in outlying_rows(data)[2:5]] == [[3], [], []]


def test_where_the_usual_row_is_zero_or_no_number_there_is_no_limit():
    inputs = torch.zeros(100, 3)
    inputs[7] = 1.0
    assert facts_of_outliers([(inputs, torch.arange(100))]) is None
    assert not outlying_rows([(inputs, torch.arange(100))])[0].any()
    assert outlying_rows([(torch.full((4, 2), math.nan), torch.arange(4))])[0].all()


@pytest.mark.parametrize(("count", "is_told"), [(4, True), (6, False)])
def test_more_than_a_twentieth_is_what_the_data_are_like(count, is_told):
    inputs = torch.ones(100, 3)
    inputs[:count] = 1000.0
    assert (facts_of_outliers([(inputs, torch.arange(100))]) is not None) is is_told


@pytest.mark.parametrize(("odd", "is_share"), [(4, True), (6, False)])
def test_nearly_all_rows_of_soft_labels_sum_to_one(odd, is_share):
    inputs, shares = soft((4,))[0]
    shares = shares.repeat(7, 1)[:100]
    shares[:odd] *= 1.1
    assert (facts_of_targets([(inputs.repeat(7, 1)[:100], shares)]) is None) is is_share
