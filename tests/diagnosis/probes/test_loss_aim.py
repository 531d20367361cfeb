from functools import partial

import pytest
import torch
from torch.nn import functional as F

from frostline.diagnosis.probes.loss_aim import facts_of_aim
from frostline.diagnosis.rules.loss_records import LossAim


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LABELS = torch.arange(40) % 5
PLACES = (drawn(12, 6, 6) > 0).long()


def negative(output, target):
    return F.nll_loss(-output.log_softmax(1), target)


def focal(output, target, sign):
    right = output.softmax(1).gather(1, target[:, None])[:, 0]
    return -((1 - right if sign > 0 else right) ** 2 * right.log()).mean()


@pytest.mark.parametrize(
    ("loss_fn", "right"),
    [(F.cross_entropy, 1.0), (negative, 0.0), (lambda o, t: focal(o, t, 1), 1.0), (lambda o, t: focal(o, t, -1), 0.0)],
    ids=["usual", "negative", "focal", "focal of the wrong side"],
)
def test_right_answers_of_outputs_that_follow_the_slope(loss_fn, right):
    facts = facts_of_aim(loss_fn, drawn(40, 5), LABELS)
    assert (facts.kind, facts.classes) == ("classes", 5)
    assert facts.right == pytest.approx(right, abs=0.05)


def test_probabilities_and_log_probabilities_are_asked_as_such():
    assert facts_of_aim(F.nll_loss, drawn(40, 5).log_softmax(1), LABELS).right == 1.0
    given = drawn(40, 5).softmax(1)
    assert facts_of_aim(lambda o, t: F.nll_loss(o.clamp_min(1e-6).log(), t), given, LABELS).right == 1.0


@pytest.mark.parametrize(
    ("loss_fn", "lost", "instead"),
    [
        (F.mse_loss, (), ""),
        (F.smooth_l1_loss, (), ""),
        (lambda o, t: (o.mean(0) - t.mean(0)).square().mean(), (0, 1, 2), ""),
        (lambda o, t: F.mse_loss(o[:, :2], t[:, :2]), (2,), ""),
        (lambda o, t: F.mse_loss(o, t[:, [1, 0, 2]]), (0, 1), "the target of column 1"),
        (lambda o, t: F.mse_loss(o, t.flip(0)), (0, 1, 2), "the targets of the rows in reversed order"),
        (lambda o, t: F.mse_loss(o, t.roll(1, 0)), (0, 1, 2), "the target of the row before"),
    ],
    ids=["squared", "huber", "mean first", "columns left out", "columns exchanged", "rows reversed", "row before"],
)
def test_columns_that_do_not_come_nearer_to_their_targets(loss_fn, lost, instead):
    facts = facts_of_aim(loss_fn, drawn(40, 3), drawn(40, 3, seed=1))
    assert (facts.kind, facts.lost, facts.instead) == ("values", lost, instead)


def test_outputs_beyond_a_bound_get_no_slope():
    facts = facts_of_aim(lambda o, t: F.mse_loss(o.clamp(0, 1), t), drawn(40, 1), drawn(40, 1, seed=1))
    assert facts.flat > 0.5


def test_labels():
    target = (drawn(40, 2, seed=1) > 0).float()
    usual = facts_of_aim(F.binary_cross_entropy_with_logits, drawn(40, 2), target)
    assert (usual.kind, usual.lost) == ("labels", ())
    turned = facts_of_aim(lambda o, t: F.binary_cross_entropy_with_logits(o, 1 - t), drawn(40, 2), target)
    assert turned.lost == (0, 1)
    distances = drawn(40, 2).abs()  # of which a label of 1 may ask to be small
    assert (
        facts_of_aim(lambda o, t: (t * o.square()).mean() + ((1 - t) * (2 - o).relu()).mean(), distances, target).lost
        == ()
    )


def test_targets_that_count_are_all_the_same():
    target = PLACES.where(drawn(12, 6, 6, seed=2) < 1, -1)

    def masked(output, target, counts):
        mask = (target >= 0) if counts else (target < 0)
        return (F.cross_entropy(output, target.clamp(min=0), reduction="none") * mask).sum() / mask.sum()

    share = float((target < 0).float().mean())
    assert facts_of_aim(lambda o, t: masked(o, t, False), drawn(12, 2, 6, 6), target).counted == (
        pytest.approx(share),
        -1,
    )
    assert facts_of_aim(lambda o, t: masked(o, t, True), drawn(12, 2, 6, 6), target).counted is None


@pytest.mark.parametrize(("sign", "name"), [(1, ""), (-1, "1")])
def test_a_penalty_with_the_wrong_sign_has_no_floor(sign, name):
    def bound(output, target):
        made, mean, spread = output
        return F.mse_loss(made, target) + sign * 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()

    output = (drawn(16, 4), drawn(16, 2, seed=1), drawn(16, 2, seed=2))
    assert facts_of_aim(bound, output, drawn(16, 4, seed=3)).unbounded == name


def test_log_probabilities_cannot_move_alone():
    outputs = drawn(64, 10).log_softmax(1)
    assert facts_of_aim(F.nll_loss, outputs, torch.arange(64) % 10).unbounded == ""
    assert (
        facts_of_aim(
            lambda o, t: F.kl_div(o, t, reduction="batchmean"), outputs, drawn(64, 10, seed=1).softmax(1)
        ).unbounded
        == ""
    )
    cosines = F.normalize(drawn(64, 5))
    assert facts_of_aim(lambda o, t: -(o * t).mean(), cosines, drawn(64, 5, seed=1)).unbounded == ""


def test_a_term_that_the_model_computes_is_no_output_that_can_move():
    output = (drawn(16, 4), drawn(16, 4, seed=2).square().mean())
    assert facts_of_aim(lambda o, t: F.mse_loss(o[0], t) + o[1], output, drawn(16, 4, seed=3)).unbounded == ""
    codes = drawn(16, 9, seed=2).requires_grad_().relu()
    found = facts_of_aim(lambda o, t: F.mse_loss(o[0], t) + o[1].sum(1).mean(), (drawn(16, 4), codes), drawn(16, 4))
    assert found.unbounded == ""


@pytest.mark.parametrize("sign", [-1, 1])
def test_rewards_of_actions_bring_rows_into_their_order(sign):
    def rewarded(output, worth):
        return sign * (output.softmax(1) * (worth - worth.mean(1, keepdim=True))).sum(1).mean()

    facts = facts_of_aim(rewarded, drawn(32, 4), drawn(32, 4, seed=1))
    assert (facts.lost == ()) is (sign < 0)


@pytest.mark.parametrize(("sign", "name"), [(-1, ""), (1, "column 1")])
def test_a_variance_with_the_wrong_sign_has_no_floor(sign, name):
    def likelihood(output, target):
        return (output[:, 1:] + (output[:, :1] - target) ** 2 * (sign * output[:, 1:]).exp()).mean()

    assert facts_of_aim(likelihood, drawn(32, 2), drawn(32, 1, seed=3)).unbounded == name


@pytest.mark.parametrize("draws", [True, False])
def test_embeddings_of_one_class(draws):
    def pairs(output, target):
        apart = torch.cdist(output, output)
        is_same = target[:, None] == target
        own, others = apart[is_same].mean(), apart[~is_same].mean()
        return (own - others if draws else others - own).add(1).relu()

    facts = facts_of_aim(pairs, drawn(40, 5), LABELS)
    assert facts.kind == "embeddings"
    assert (facts.spread > 1.1) is not draws


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_slope_of_rewarded_actions(sign):
    taken = torch.stack([(torch.arange(40) % 3).float(), drawn(40)], 1)

    def loss_fn(output, target):
        return sign * (output.log_softmax(1).gather(1, target[:, :1].long())[:, 0] * target[:, 1]).mean()

    assert (facts_of_aim(loss_fn, drawn(40, 3), taken).reward > 0.5) is (sign > 0)


def test_nothing_is_said_where_it_cannot_be_asked():
    assert facts_of_aim(lambda o, _: o.square().mean(), drawn(40, 5), LABELS) == LossAim("ignored")  # a critic's, say
    assert facts_of_aim(F.cross_entropy, "text", LABELS) == LossAim()
    centres = drawn(5, 5).requires_grad_()
    assert facts_of_aim(lambda o, t: F.cross_entropy(o @ centres, t), drawn(40, 5), LABELS).kind == ""


def test_a_column_that_drowns_the_others_is_named():
    target = drawn(40, 4, seed=1) * torch.tensor([1.0, 1.0, 5000.0, 1.0])
    assert facts_of_aim(F.mse_loss, drawn(40, 4), target).loudest[:2] == (2, 4)
    assert facts_of_aim(F.mse_loss, drawn(40, 4), drawn(40, 4, seed=1)).loudest is None


def test_an_output_that_makes_a_target_and_is_detached_is_not_led_astray():
    def of_one_step(values, seen, *, is_detached):
        after = values[:, 1].detach() if is_detached else values[:, 1]
        return (values[:, 0] - seen[:, 0] - 0.9 * seen[:, 1] * after).square().mean()

    torch.manual_seed(0)
    seen = torch.stack([(torch.rand(64) < 0.2).float(), (torch.rand(64) < 0.7).float()], 1)
    values = torch.randn(64, 2)
    found = [facts_of_aim(partial(of_one_step, is_detached=own), values, seen) for own in (True, False)]
    assert [1 in own.lost for own in found] == [False, True]
