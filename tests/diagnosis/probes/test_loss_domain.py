"""What losses take, asked at outputs that are made for them: the faults, and the same losses used as they are meant."""

import pytest
import torch
from torch.nn import functional as F

from frostline.diagnosis.probes.loss_domain import facts_of_domain
from frostline.diagnosis.rules.loss_records import LossDomain

torch.manual_seed(0)
LOGITS_BC = torch.randn(24, 5)
CLASSES_B = torch.arange(24) % 5
SHARES_BC = 0.7 * F.one_hot(CLASSES_B, 5).float() + 0.06
MASKS = (torch.rand(6, 1, 8, 8) > 0.6).float()
bce = F.binary_cross_entropy_with_logits


@pytest.mark.parametrize("high", [2.0, 255.0])
def test_masks_beyond_one_take_the_floor_from_a_binary_loss(high):
    assert facts_of_domain(bce, torch.randn(6, 1, 8, 8), high * MASKS).largest_target == high


@pytest.mark.parametrize(
    ("loss_fn", "target"),
    [
        (bce, MASKS), (bce, 0.9 * MASKS), (F.mse_loss, 255 * MASKS), (F.l1_loss, 100 + 255 * MASKS),
        (F.poisson_nll_loss, 9 * MASKS), (F.mse_loss, 25 + 320 * torch.rand(6, 1, 8, 8)),
        (F.smooth_l1_loss, 900 * MASKS), (F.mse_loss, torch.randn(6, 1, 8, 8)),
    ],
)  # fmt: skip
def test_losses_with_a_floor_keep_it(loss_fn, target):
    assert facts_of_domain(loss_fn, torch.randn(6, 1, 8, 8), target) == LossDomain()


def divergence(output, target):
    return F.kl_div(output, target, reduction="batchmean")


def test_a_divergence_of_probabilities_is_lowest_at_none_of_the_targets():
    facts = facts_of_domain(lambda output, target: divergence(output.softmax(1), target), LOGITS_BC, SHARES_BC)
    assert facts.is_soft
    assert facts.is_improper
    assert facts_of_domain(divergence, LOGITS_BC.softmax(1), SHARES_BC).is_improper


@pytest.mark.parametrize(
    ("loss_fn", "output"),
    [
        (lambda output, target: divergence(output.log_softmax(1), target), LOGITS_BC),
        (lambda output, target: divergence((output / 4).log_softmax(1), target), LOGITS_BC),
        (divergence, LOGITS_BC.log_softmax(1)), (F.cross_entropy, LOGITS_BC), (F.mse_loss, LOGITS_BC.softmax(1)),
        (F.mse_loss, LOGITS_BC), (bce, LOGITS_BC),
    ],
)  # fmt: skip
def test_losses_that_fit_are_lowest_at_soft_targets(loss_fn, output):
    facts = facts_of_domain(loss_fn, output, SHARES_BC)
    assert facts == LossDomain(is_soft=True)


def aligned(output, target):
    scores = output.transpose(0, 1)
    return F.ctc_loss(scores, target, torch.full((len(output),), len(scores)), torch.full((len(output),), 3))


def test_a_loss_of_classes_that_falls_with_all_outputs_is_seen():
    output, target = torch.randn(6, 12, 5), torch.randint(1, 5, (6, 3))
    assert facts_of_domain(aligned, output, target).falls_with_all
    assert not facts_of_domain(lambda o, t: aligned(o.log_softmax(2), t), output, target).falls_with_all
    turned = output.log_softmax(2).transpose(0, 1)  # as ctc_loss takes them
    assert not facts_of_domain(lambda o, t: aligned(o.transpose(0, 1), t), turned, target).falls_with_all
    places = torch.randint(5, (6, 12))
    assert not facts_of_domain(lambda o, t: F.cross_entropy(o.transpose(1, 2), t), output, places).falls_with_all
    assert facts_of_domain(lambda o, t: F.nll_loss(o.transpose(1, 2), t), output, places).falls_with_all


def test_a_loss_that_takes_outputs_above_zero_alone_is_seen():
    counts = torch.randint(4, (24, 1)).float()
    raw = facts_of_domain(lambda o, t: F.poisson_nll_loss(o, t, log_input=False), torch.randn(24, 1), counts)
    assert raw.needs_positive
    assert not facts_of_domain(F.poisson_nll_loss, torch.randn(24, 1), counts).needs_positive
    assert not facts_of_domain(F.mse_loss, torch.randn(24, 1), counts).needs_positive


def test_classes_that_cost_nothing_are_named_with_their_share():
    weight = torch.ones(5)
    weight[2] = 0
    facts = facts_of_domain(lambda o, t: F.cross_entropy(o, t, weight=weight), LOGITS_BC, CLASSES_B)
    assert facts.uncounted == ((2, pytest.approx(5 / 24)),)
    ignored = facts_of_domain(lambda o, t: F.cross_entropy(o, t, ignore_index=0), LOGITS_BC, CLASSES_B)
    assert ignored.uncounted[0][0] == 0
    for whole in (F.cross_entropy, lambda o, t: F.multi_margin_loss(o, t), lambda o, t: 0 * o.sum()):
        assert facts_of_domain(whole, LOGITS_BC, CLASSES_B).uncounted == ()


def test_what_cannot_be_asked_is_left_out():
    def odd(output, target):
        raise RuntimeError("no")

    for output, target in ((LOGITS_BC, SHARES_BC), (LOGITS_BC, CLASSES_B), (LOGITS_BC[:, :1], 3 * SHARES_BC[:, :1])):
        facts = facts_of_domain(odd, output, target)
        assert facts == LossDomain(is_soft=facts.is_soft)
    assert facts_of_domain(F.cross_entropy, (LOGITS_BC,), CLASSES_B) == LossDomain()


def test_a_reward_less_a_baseline_counts_every_class():
    """Where the baseline is 0, rows without a reward have no slope."""
    classes = torch.arange(32) % 3

    def policy(output, target):
        reward = (output[:, :3].argmax(1) == target).float()
        advantage = reward - output[:, 3].detach()
        return -(output[:, :3].log_softmax(1)[:, 0] * advantage).mean() + (output[:, 3] - reward).square().mean()

    assert facts_of_domain(policy, torch.randn(32, 4), classes).uncounted == ()


def test_a_logarithm_of_an_exact_0_is_seen_of_shares_alone():
    labels = (torch.rand(24, 1) > 0.5).float()

    def of(small):
        return lambda p, t: -(t * (p + small).log() + (1 - t) * (1 - p + small).log()).mean()

    shares, free = torch.randn(24, 1, requires_grad=True).sigmoid(), torch.randn(24, 1, requires_grad=True) * 1
    broken = facts_of_domain(of(0.0), shares, labels)
    assert broken.breaks_at_bounds
    assert not broken.needs_positive  # a sigmoid gives nothing below 0
    assert not facts_of_domain(of(1e-9), shares, labels).breaks_at_bounds
    assert not facts_of_domain(F.binary_cross_entropy, shares, labels).breaks_at_bounds
    assert not facts_of_domain(of(0.0), free, labels).breaks_at_bounds


def test_a_column_of_labels_that_a_loss_broadcasts_over_all_classes():
    labels = (torch.arange(24) % 2)[:, None]
    shares = torch.randn(24, 2, requires_grad=True).softmax(1)

    def by_hand(p, t):
        return -(t * p.clamp_min(1e-7).log()).sum(1).mean()

    column = facts_of_domain(by_hand, shares, labels.float())
    assert (column.uncounted, column.is_column) == (((0, 0.5),), True)
    whole = facts_of_domain(by_hand, shares, F.one_hot(labels[:, 0], 2).float())
    assert (whole.uncounted, whole.is_column) == ((), False)
    assert not facts_of_domain(F.mse_loss, shares[:, :1], labels.float()).is_column
    named = facts_of_domain(F.cross_entropy, torch.randn(24, 2), labels[:, 0])
    assert (named.uncounted, named.is_column) == ((), False)
