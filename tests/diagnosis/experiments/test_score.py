import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import score
from frostline.diagnosis.experiments.score import is_moved, mean_loss, num_rows, one_answer
from helpers_health import mlp, task


class Given(nn.Module):
    """Answers with its input."""

    def forward(self, x):
        return x


class Named(nn.Module):
    """Answers with its input, by name."""

    def forward(self, x):
        return {"logits": x, "scale": 2.0}


def scored(output, target, loss_fn=F.mse_loss):
    return score(Given(), [(output, target)], loss_fn).share


def test_classes():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 1.0]])
    assert scored(logits, torch.tensor([0, 1, 0, 0]), F.cross_entropy) == 0.75
    image = logits.t().reshape(1, 2, 2, 2)
    assert scored(image, torch.tensor([[[0, 1], [0, 0]]]), F.cross_entropy) == 0.75


def test_labels_as_logits_or_probabilities():
    target = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert scored(torch.tensor([[9.0], [-9.0], [0.1], [7.0]]), target) == 0.75
    assert scored(torch.tensor([[0.9], [0.1], [0.4], [0.2]]), target) == 0.75


def test_values_by_explained_variance():
    target = torch.randn(100, 1)
    assert scored(target, target) == pytest.approx(1.0)
    assert scored(target.mean().expand(100, 1), target) == pytest.approx(0.0, abs=1e-4)
    assert scored(-5 * target, target) == 0.0
    assert scored(torch.zeros(4, 1), torch.full((4, 1), 3.0)) == 0.0  # targets that do not vary


def test_where_it_is_not_finite_or_cannot_be_compared():
    result = score(Given(), [(torch.full((2, 2), math.nan), torch.tensor([0, 1]))], F.cross_entropy)
    assert result.share == 0.0
    assert math.isnan(result.loss)
    odd = score(Given(), [(torch.ones(2, 2), {"labels": 1})], lambda out, _: out.mean())
    assert odd.share == pytest.approx(0.5)
    assert score(Given(), [(torch.ones(2, 2), None)], lambda *_: torch.tensor(math.nan)).share == 0.0


@pytest.mark.parametrize("train_mode", [False, True])
def test_nothing_of_the_model_or_the_generators_changes(train_mode):
    model = nn.Sequential(mlp(), nn.Dropout(0.5))
    model[0].eval()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    first = score(model, task(3), F.cross_entropy, train_mode=train_mode)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert score(model, task(3), F.cross_entropy, train_mode=train_mode) == first


def test_a_gain_is_compared_sample_by_sample():
    target = torch.zeros(8).long()
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    all_right = score(Given(), [(right.expand(8, 2), target)], F.cross_entropy)
    half = score(Given(), [(torch.stack([right, wrong] * 4), target)], F.cross_entropy)
    gain, error = all_right.gain_over(half)
    assert gain == 0.5
    assert error == pytest.approx(torch.tensor([0.0, 1.0] * 4).std().item() / 8**0.5)
    assert half.gain_over(half) == (0.0, 0.0)
    assert all_right.gain_over(score(Given(), [(right[None], target[:1])], F.cross_entropy))[1] == math.inf


def test_answers_of_other_shapes():
    words = torch.eye(4).expand(2, 4, 4)  # (B, T, V)
    assert scored(words, torch.tensor([[0, 1, 2, 3], [0, 1, 2, -100]]), lambda out, _: out.mean()) == 1.0
    assert scored(torch.tensor([[2.0], [-1.0], [3.0]]), torch.tensor([[1.0], [-1.0], [-1.0]])) == pytest.approx(2 / 3)


def test_skill_is_what_is_saved_over_one_answer_for_all():
    target = torch.tensor([0, 1, 0, 1])
    same = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert score(Given(), [(same, target)], F.cross_entropy).skill == pytest.approx(0.0)
    right = 3.0 * F.one_hot(target).float()
    assert score(Given(), [(right, target)], F.cross_entropy).skill > 0.8
    values = torch.randn(50, 1)
    assert score(Given(), [(values, values)], F.mse_loss).skill == pytest.approx(1.0)
    assert score(Given(), [(torch.full((2, 2), math.nan), target[:2])], F.cross_entropy).skill is None
    assert score(Given(), [(torch.ones(2, 2), None)], lambda *_: torch.tensor(0.0)).skill is None
    named = score(Named(), [(right, target)], lambda out, y: F.cross_entropy(out["logits"], y))
    assert named.skill > 0.8


@pytest.mark.parametrize("train_mode", [False, True])
@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_the_mean_loss_is_that_of_the_score(train_mode, value):
    model, data = nn.Sequential(mlp(), nn.Dropout(0.5)), task(3)
    data[1][0][0] = value
    expected = score(model, data, F.cross_entropy, train_mode=train_mode).loss
    assert mean_loss(model, data, F.cross_entropy, train_mode=train_mode) == pytest.approx(expected, rel=0, nan_ok=True)
    assert model.training


def test_targets_that_are_one_of_several_are_classes():
    target = torch.eye(4)
    assert scored(torch.zeros(4, 4) + torch.eye(4), target) == 1.0
    assert scored(torch.zeros(4, 4) + torch.eye(4)[[0, 1, 3, 2]], target) == 0.5  # of labels, three in four
    several = target + torch.eye(4)[[1, 0, 3, 2]]
    assert scored(torch.full((4, 4), -1.0), several) == 0.5


def test_small_batches_have_one_answer_together():
    logits = 4.0 * torch.eye(4).repeat(8, 1)
    target = torch.arange(4).repeat(8)
    whole = score(Given(), [(logits, target)], F.cross_entropy, compares=True)
    rows = list(zip(logits.split(1), target.split(1), strict=True))
    pairs = score(Given(), rows, F.cross_entropy, compares=True)
    assert pairs.skill == pytest.approx(whole.skill)
    assert whole.skill > 0.9
    assert pairs.lead == whole.lead == 0.75  # of four classes, one answer is right a quarter of the time


def test_who_is_unsure_or_too_sure_may_lead_all_the_same():
    logits = torch.eye(4).repeat(8, 1)
    target = torch.arange(4).repeat(8)
    target[::8] = 3
    sure = score(Given(), [(40 * logits, target)], F.cross_entropy, compares=True)
    assert sure.skill < 0.1
    assert sure.lead > 0.5


class Priced(nn.Module):
    """Answers with its input, and says what each sample costs."""

    def forward(self, x, y):
        return {"cost": F.cross_entropy(x, y, reduction="none"), "logits": x}


def test_skill_is_not_known_where_no_answer_changes_the_loss():
    logits, target = torch.randn(16, 4), torch.randint(4, (16,))
    assert score(Priced(), [((logits, target), target)], lambda out, _: out["cost"].mean()).skill is None
    same = torch.ones(16, 4) + 1e-7 * logits
    assert score(Given(), [(same, target)], F.cross_entropy).skill == pytest.approx(0.0, abs=1e-4)


def test_skill_is_not_known_of_a_loss_that_the_model_gives():
    data = [(torch.randn(8, 4), torch.zeros(8, 4))]
    assert score(Given(), data, lambda out, _: out.mean()).skill is not None
    alone = [(torch.tensor(2.0), None), (torch.tensor(1.0), None)]
    assert score(Given(), alone, lambda out, _: out).skill is None


def test_a_ragged_last_batch_without_dimensions():
    target = torch.randn(20)
    data = [(target, target), (torch.tensor(1.0), torch.tensor([1.0]))]
    assert score(Given(), data, lambda out, y: F.mse_loss(out, y.squeeze())).skill == pytest.approx(1.0)
    assert score(Given(), data[1:], lambda out, y: F.mse_loss(out, y.squeeze())).skill is None


def masked(output, target):
    asked = ~target.isnan()
    return (output[asked] - target[asked]).square().mean()


def test_targets_that_are_nan_are_not_asked():
    target = torch.randn(50, 3)
    target[::2, 1], target[4] = math.nan, math.nan
    result = score(Given(), [(target.nan_to_num(9.0), target)], masked)
    assert result.share == pytest.approx(1.0)
    assert result.samples[:5] == (1.0,) * 5
    mean = target.nanmean().expand(50, 3)
    assert score(Given(), [(mean, target)], masked).share == pytest.approx(0.0, abs=1e-4)
    labels = torch.tensor([[1.0, 0.0, math.nan], [math.nan, 1.0, 1.0]])
    assert scored(torch.tensor([[3.0, -3.0, 3.0], [9.0, -3.0, 3.0]]), labels, masked) == 0.75


def test_what_targets_are_is_told_by_all_of_them():
    counts = torch.tensor([[0.0], [1.0], [3.0], [1.0], [0.0], [2.0]])
    answers = counts + 0.1
    whole = score(Given(), [(answers, counts)], F.mse_loss)
    rows = score(Given(), list(zip(answers.split(1), counts.split(1), strict=True)), F.mse_loss)
    assert rows.share == pytest.approx(whole.share)
    assert rows.samples == pytest.approx(whole.samples)


def test_losses_that_view_or_change_or_refuse_answers():
    model, data = nn.Linear(4, 3), [(torch.randn(6, 2, 4), torch.randint(3, (6, 2))) for _ in range(3)]
    viewed = score(model, data, lambda out, y: F.cross_entropy(out.view(-1, 3), y.view(-1)))
    assert viewed.skill == score(model, data, lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten())).skill
    rows = [(inputs[:, 0], inputs[:, 0, :3]) for inputs, _ in data]
    changed = score(model, [rows[0]], lambda out, y: out.sub_(y).square().mean())
    assert math.isfinite(changed.skill)

    def unit(out, y):
        if out.std(0).sum() == 0:
            raise ValueError("all answers are the same")
        return (out - y).square().mean()

    assert score(model, rows, unit).skill is None


@pytest.mark.parametrize(
    ("target", "output", "share"),
    [
        (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0.4, 0.6], [0.6, 0.6]]), 0.75),  # two are labels
        (torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.4, 0.45, 0.1]]), 1.0),  # one of three
        (torch.tensor([[-1.0], [1.0]]), torch.tensor([[-0.1], [0.1]]), 1.0),
        (torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.4], [0.6]]), 0.5),  # sides are parted at 0, not at a half
        (torch.tensor([[0.0], [1.0]]), torch.tensor([[0.4], [1.1]]), 1.0 / 2),  # no probabilities
    ],
)  # fmt: skip
def test_what_targets_are_says_where_answers_part(target, output, share):
    assert scored(output, target) == share


def test_labels_below_zero_and_of_other_shapes_are_not_asked():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    found = score(Given(), [(logits, torch.tensor([0, -100, 1]))], lambda out, y: F.cross_entropy(out, y))
    assert (found.share, found.samples) == (0.5, (1.0, 0.0, 0.0))
    odd = score(Given(), [(logits, torch.zeros(3, 5).long())], lambda out, y: out.mean())
    assert odd.is_of_loss
    assert score(Given(), [(logits, torch.tensor(1.0))], lambda out, y: out.mean()).is_of_loss


def test_a_score_of_losses_is_one_for_nothing_and_a_half_for_one():
    def of(*losses):
        data = [(torch.full((1,), loss), None) for loss in losses]
        return score(Given(), data, lambda out, _: out.mean())

    assert (of(0.0).share, of(1.0).share, of(-3.0).share, of(1.0, 3.0).share) == (1.0, 0.5, 1.0, (0.5 + 0.25) / 2)
    assert of(1.0, 3.0).samples == (1.0, 3.0)
    assert of(1.0, 3.0).loss == 2.0
    gain, error = of(1.0, 1.0).gain_over(of(2.0, 4.0))
    assert gain == pytest.approx((1 / 3 + 1.0) / 2)  # of their mean
    assert error == pytest.approx(abs(1 / 3 - 1.0) / 2)
    assert of(9.0, 9.0).gain_over(of(1.0, 1.0))[0] == -1.0  # no worse than all of it
    assert of(1.0).gain_over(of(2.0))[1] == math.inf
    assert of(0.0, 0.0).gain_over(of(0.0, 0.0)) == (0.0, 0.0)


def test_nothing_to_score_by_costs_nothing():
    empty = score(Given(), [], F.mse_loss)
    assert (empty.loss, empty.share, empty.samples, empty.skill) == (0.0, 1.0, (0.0,), None)
    assert mean_loss(Given(), [], F.mse_loss) == 0.0


def test_samples_of_values_are_shares_of_the_variance_and_no_less_than_minus_one():
    target = torch.tensor([[0.0], [2.0], [4.0], [6.0]])  # of variance 5
    found = score(Given(), [(torch.tensor([[0.0], [3.0], [4.0], [99.0]]), target)], F.mse_loss)
    assert found.samples == pytest.approx((1.0, 0.8, 1.0, -1.0))
    assert found.share == 0.0
    broken = score(Given(), [(target * math.nan, target)], F.mse_loss)
    assert (broken.share, broken.samples) == (0.0, (0.0,) * 4)


def test_the_mean_answer_is_asked_of_some_dozen_samples():
    """Of single rows, sixteen make one answer together: one alone would be its own mean."""
    values = torch.randn(16, 1)
    rows = [(value[None], value[None]) for value in values]
    assert score(Given(), rows, F.mse_loss).skill == pytest.approx(1.0)
    assert score(Given(), rows[:1], F.mse_loss).skill is None
    below = score(Given(), [(values, values)], lambda out, y: F.mse_loss(out, y) - 10)
    assert below.skill == pytest.approx(
        float(values.var(correction=0)) / (10 - float(values.var(correction=0))), rel=1e-3
    )


def test_single_numbers_are_no_samples():
    found = score(Given(), [(torch.tensor(2.0), torch.tensor(1.0))], F.mse_loss)
    assert (found.is_of_loss, found.loss) == (True, 1.0)


PARTS = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])]


def test_batches_share_the_mean_of_all():
    assert one_answer(PARTS[0], PARTS).tolist() == [[3.0], [3.0]]
    assert one_answer(PARTS[0], PARTS[:1]).tolist() == [[1.0], [1.0]]


def test_answers_by_name_keep_what_has_no_mean():
    named = [{"logits": part, "count": torch.tensor(2), "scale": 2.0} for part in PARTS]
    same = one_answer(named[1], named)
    assert same["logits"].tolist() == [[3.0], [3.0]]
    assert (int(same["count"]), same["scale"]) == (2, 2.0)
    assert named[1]["logits"] is PARTS[1]
    assert num_rows(named[0], unknown=9) == 2


def test_answers_of_another_length_are_left_out():
    assert one_answer(torch.zeros(2, 3), [torch.ones(2, 4), torch.zeros(2, 3)]).shape == (2, 3)


def test_what_has_no_mean_is_not_known():
    assert one_answer((PARTS[0],), [(PARTS[0],)]) is None
    assert num_rows((PARTS[0],), unknown=9) == 9


@pytest.mark.parametrize(
    "output", [torch.tensor(2.0), torch.zeros(2, 2).long(), torch.zeros(2, 2, dtype=torch.complex64)]
)
def test_a_loss_and_what_is_no_real_number_have_no_mean(output):
    assert one_answer(output, [output]) is None


def test_answers_by_name_with_a_loss_or_an_input_have_no_mean():
    x = torch.ones(2, 3)
    with_loss, with_input = {"loss": torch.tensor(2.0), "logits": x}, {"x": x.flatten(), "answer": x + 1}
    assert one_answer(with_loss, [with_loss]) is None
    assert one_answer({"count": torch.tensor(2)}, [{"count": torch.tensor(2)}]) is None
    assert one_answer(with_input, [with_input], [x]) is None
    assert one_answer(with_input, [with_input], [x + 0])["answer"].tolist() == [[2.0] * 3] * 2


def test_a_last_batch_of_other_dimensions_is_left_out():
    assert one_answer(PARTS[0][:, 0], [PARTS[0][:, 0], torch.tensor(9.0)]).tolist() == [1.0, 1.0]
    named = [{"logits": PARTS[0]}, {"other": PARTS[1]}, {"logits": torch.tensor(9.0)}]
    assert one_answer(named[0], named)["logits"].tolist() == [[1.0], [1.0]]
    assert one_answer(named[1], named)["other"].tolist() == [[5.0], [5.0]]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_an_answer_is_moved_if_it_is_away_from_the_one_for_all_by_a_hundredth_of_the_largest(scale):
    same = torch.full((2, 2), scale)
    near, away = same.clone(), same.clone()
    near[0, 0] *= 1.009
    away[0, 0] *= 1.012
    assert not is_moved(near, same)
    assert is_moved(away, same)
    assert is_moved({"a": near, "b": away}, {"a": same, "b": same})
    assert not is_moved({"a": near, "count": torch.tensor([5]), "text": "x"}, {"a": same, "count": torch.tensor([1])})
    assert not is_moved(torch.zeros(0, 2), torch.zeros(0, 2))


def test_rows_are_counted_in_what_has_some():
    assert num_rows(torch.zeros(3, 2), unknown=9) == 3
    assert num_rows(torch.tensor(1.0), unknown=9) == 9
    assert num_rows({"loss": torch.tensor(1.0), "logits": torch.zeros(4, 2), "mask": torch.zeros(2)}, unknown=9) == 4
    assert num_rows({"text": "x"}, unknown=9) == 9


def test_an_input_that_is_handed_on_alone_is_an_answer_and_a_view_of_it_beside_others_is_none():
    x = torch.ones(2, 3)
    assert one_answer({"x": x}, [{"x": x}], [x])["x"].tolist() == x.tolist()
    for view in (x, x[:, :2], x.t()):
        both = {"view": view, "answer": torch.ones(2, 1)}
        assert one_answer(both, [both], [x]) is None
    empty = {"view": torch.zeros(2, 0), "answer": torch.ones(2, 1)}
    assert one_answer(empty, [empty], [torch.zeros(2, 0)]) is not None
    sparse = {"view": torch.ones(2, 3), "answer": torch.ones(2, 1)}
    assert one_answer(sparse, [sparse], [torch.eye(2).to_sparse()]) is not None
