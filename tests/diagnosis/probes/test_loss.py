import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis import judge, probe_loss
from frostline.diagnosis.probes.loss import _is_by_row
from frostline.diagnosis.rules.records import Evidence

CLASSES = torch.randint(4, (16,), generator=torch.Generator().manual_seed(0))
LOGITS = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
TARGETS = torch.randn(16, 2, generator=torch.Generator().manual_seed(2)) * 3
LABELS = (TARGETS > 0).float()
COUNTS = torch.poisson(torch.full((16, 2), 3.0), generator=torch.Generator().manual_seed(3))
SEVERAL = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]] * 4)


def of_distances(output, is_same):
    return (is_same * output + (1 - is_same) * F.relu(2 - output) ** 2).mean()


def is_mismatch(loss_fn, output, target):
    facts = probe_loss(loss_fn, output, target)
    return any(finding.code == "FL503" for finding in judge(Evidence(loss=facts)).findings)


@pytest.mark.parametrize(
    ("loss_fn", "output", "target"),
    [
        (F.cross_entropy, LOGITS, CLASSES),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LOGITS, CLASSES),
        (lambda out, y: F.nll_loss(F.log_softmax(out, 1), y), LOGITS, CLASSES),
        (nn.MultiMarginLoss(), LOGITS, CLASSES),
        (F.mse_loss, TARGETS + 1, TARGETS),
        (nn.HuberLoss(), TARGETS + 1, TARGETS),
        (nn.L1Loss(), TARGETS + 1, TARGETS),
        (F.binary_cross_entropy_with_logits, torch.randn(16, 2), LABELS),
        (F.binary_cross_entropy, torch.rand(16, 2), LABELS),
        (F.mse_loss, torch.rand(16, 2), LABELS),
        (F.mse_loss, torch.sigmoid(torch.randn(16, 2, requires_grad=True)), LABELS),
        (nn.PoissonNLLLoss(), torch.randn(16, 2), COUNTS),
        (lambda out, y: (out + (y + 0.1) * (-out).exp()).mean(), torch.randn(16, 2), COUNTS),
        (of_distances, 4 * torch.rand(16, 2), LABELS),
        (lambda out, y: F.mse_loss(out.squeeze(1), y), torch.randn(16, 1), TARGETS[:, 0]),
        (lambda out, y: (out.sort(0).values[:, 0] - y.sort().values).abs().mean(), torch.randn(16, 1), TARGETS[:, 0]),
        (F.mse_loss, torch.tanh(torch.randn(16, 2, requires_grad=True)), 2 * LABELS - 1),
    ],
    ids="ce smoothed nll margin mse huber l1 bce bce-probabilities mse-labels mse-sigmoid-labels poisson gamma "
    "distances squeezed sorted tanh-sides".split(),
)
def test_losses_that_fit(loss_fn, output, target):
    assert not is_mismatch(loss_fn, output, target)


@pytest.mark.parametrize(
    ("loss_fn", "output", "target"),
    [
        (lambda out, y: F.cross_entropy(F.softmax(out, 1), y), LOGITS, CLASSES),
        (F.cross_entropy, F.softmax(LOGITS, 1), CLASSES),
        (F.nll_loss, LOGITS, CLASSES),
        (lambda out, y: -F.cross_entropy(out, y), LOGITS, CLASSES),
        (lambda out, y: -F.mse_loss(out, y), TARGETS + 1, TARGETS),
        (lambda out, y: -F.mse_loss(out, y), torch.randn(16, 2), COUNTS),
        (lambda out, y: -F.poisson_nll_loss(out, y), torch.randn(16, 2), COUNTS),
        (lambda out, y: -F.binary_cross_entropy_with_logits(out, y), torch.randn(16, 2), LABELS),
        (F.binary_cross_entropy_with_logits, torch.sigmoid(torch.randn(16, 2, requires_grad=True)), LABELS),
        (F.cross_entropy, torch.randn(16, 4, requires_grad=True).softmax(1), F.one_hot(CLASSES, 4).float()),
        (F.mse_loss, torch.sigmoid(torch.randn(16, 2, requires_grad=True)), TARGETS),
        (F.mse_loss, torch.relu(torch.randn(16, 2, requires_grad=True)), TARGETS),
        (lambda out, y: (out - y).square().mean(), torch.randn(16, 1), TARGETS[:, 0]),
        (lambda out, y: (out - y).abs().sum(), torch.randn(16), TARGETS[:, :1]),
        (F.cross_entropy, torch.sigmoid(torch.randn(16, 4, requires_grad=True)), CLASSES),
        (F.cross_entropy, torch.tanh(torch.randn(16, 8, requires_grad=True)), CLASSES),
        (F.binary_cross_entropy_with_logits, torch.relu(torch.randn(16, 2, requires_grad=True)), LABELS),
        (F.binary_cross_entropy_with_logits, torch.tanh(torch.randn(16, 2, requires_grad=True)), LABELS),
        (F.binary_cross_entropy_with_logits, torch.randn(16, 2), 2 * LABELS - 1),
        (F.binary_cross_entropy, torch.randn(16, 3, requires_grad=True).softmax(1), SEVERAL),
        (
            lambda out, y: F.binary_cross_entropy_with_logits(out, y),
            torch.sigmoid(torch.randn(16, 1, requires_grad=True)).squeeze(1),
            LABELS[:, 0],
        ),
    ],
    ids="softmax-in-loss softmax-in-model nll-on-logits negated negated-mse negated-mse-counts "
    "negated-poisson negated-bce bce-sigmoid ce-one-hot sigmoid-range "
    "relu-range all-pairs all-pairs-summed sigmoid-ce tanh-ce relu-bce tanh-bce sides-bce softmax-of-several "
    "squeezed-sigmoid".split(),
)
def test_losses_that_do_not(loss_fn, output, target):
    assert is_mismatch(loss_fn, output, target)


def pearson(out, y):
    return -F.cosine_similarity(out - out.mean(), y - y.mean(), dim=0).mean()


def log_scale(out, y):
    gap = out - y.abs().log()
    return gap.var() + 0.1 * gap.mean().square()


CENTRES = F.normalize(torch.randn(4, 4, generator=torch.Generator().manual_seed(5)), dim=1)


def angular(out, y):
    return F.cross_entropy(8 * F.normalize(out, dim=1) @ CENTRES.T, y)


def asserting(out, y):
    assert bool((out.norm(dim=1) < 100).all())
    return F.mse_loss(out, y)


SOFT = torch.softmax(torch.randn(16, 3, generator=torch.Generator().manual_seed(6)), 1)


@pytest.mark.parametrize(
    ("loss_fn", "output", "target"),
    [
        (pearson, torch.randn(16, 2), TARGETS),
        (log_scale, torch.randn(16, 2), TARGETS.abs() + 1),
        (angular, LOGITS, CLASSES),
        (asserting, torch.randn(16, 2), 1e3 * TARGETS),
        (nn.KLDivLoss(reduction="batchmean"), torch.randn(16, 3).log_softmax(1), SOFT),
    ],
    ids="pearson log-scale angular asserting kl".split(),
)
def test_losses_whose_answers_stand_for_something_else_are_not_judged(loss_fn, output, target):
    assert not is_mismatch(loss_fn, output, target)


def test_a_relu_before_cross_entropy_is_a_tip():
    facts = probe_loss(F.cross_entropy, torch.relu(torch.randn(16, 4, requires_grad=True)), CLASSES)
    (finding,) = (one for one in judge(Evidence(loss=facts)).findings if one.code == "FL503")
    assert finding.outcome == "tip"


def test_a_loss_in_half_precision_takes_the_log_of_zero():
    facts = probe_loss(lambda out, y: F.nll_loss(torch.log(F.softmax(out.half(), 1)), y), LOGITS, CLASSES)
    assert not facts.is_finite


def contrastive(output, target):
    unit = F.normalize(output, dim=1)
    alike = (target[:, None] == target[None]).float()
    return -(alike * (unit @ unit.T).log_softmax(1)).sum() / alike.sum()


def critic(output, target):
    return -(output * target).mean() + 0.1 * output.square().mean()


SIDES = 2.0 * LABELS - 1.0


@pytest.mark.parametrize(
    ("loss_fn", "output", "target"),
    [
        (F.nll_loss, LOGITS.log_softmax(1), CLASSES),
        (lambda out, y: F.nll_loss(out.log(), y), LOGITS.softmax(1), CLASSES),
        (contrastive, LOGITS, CLASSES),
        (critic, torch.randn(16, 2), SIDES),
        (F.soft_margin_loss, torch.randn(16, 2), torch.where(LABELS[:, :1] > 0, 1.0, -1.0).expand(16, 2)),
    ],
    ids="log-probabilities probabilities contrastive critic sides".split(),
)
def test_losses_are_asked_in_the_range_of_the_outputs(loss_fn, output, target):
    assert not is_mismatch(loss_fn, output, target)


def own_bce(p, y):
    return -(y * (p + 1e-7).log() + (1 - y) * (1 - p + 1e-7).log()).mean()


def focal(p, y):
    right = torch.where(y > 0.5, p, 1 - p)
    return -((1 - right).square() * (right + 1e-7).log()).mean()


def dice(p, y):
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def overlap(p, y):
    both = (p * y).sum()
    return 1 - (both + 1) / (p.sum() + y.sum() - both + 1)


SIGMOIDS = torch.sigmoid(torch.randn(16, 2, generator=torch.Generator().manual_seed(3), requires_grad=True))
MOSTLY_ONE = (TARGETS > -3).float()


@pytest.mark.parametrize("labels", [LABELS, MOSTLY_ONE, 1 - MOSTLY_ONE], ids="even many few".split())
@pytest.mark.parametrize("loss_fn", [own_bce, focal, dice, overlap, F.l1_loss])
def test_losses_of_probabilities_are_asked_within_their_domain(loss_fn, labels):
    facts = probe_loss(loss_fn, SIGMOIDS, labels)
    assert (facts.kind, facts.prefers_right) == ("values", True)
    assert facts.stuck_share == 0.0
    assert not probe_loss(lambda p, y: -loss_fn(p.clamp(0, 1), y), SIGMOIDS, labels).prefers_right


def masked(output, target):
    asked = ~target.isnan()
    return (output - target)[asked].square().mean()


def test_targets_that_are_nan_are_not_asked_about():
    for target in (TARGETS, LABELS, SIDES):
        some = target.clone()
        some[:, 0] = torch.nan
        facts = probe_loss(masked, torch.randn(16, 2), some)
        assert (facts.kind, facts.prefers_right) == ("values", True)
        assert probe_loss(F.mse_loss, torch.randn(16, 2), some).kind == "unknown"
        assert probe_loss(masked, torch.randn(16, 2), some * torch.nan).kind == "unknown"
    above = TARGETS.abs() + 2
    above[::2] = torch.nan
    assert probe_loss(masked, SIGMOIDS, above).out_of_reach == 1.0


def test_a_loss_without_a_finite_answer_but_the_right_one_is_unknown():
    def picky(output, target):
        return (output - target).square().mean() + (0 if torch.equal(output, target) else torch.nan)

    assert probe_loss(picky, SIGMOIDS, LABELS).kind == "unknown"
    assert probe_loss(picky, TARGETS + 1, TARGETS).kind == "unknown"


def test_shares_that_are_taken_for_log_probabilities():
    assert is_mismatch(F.nll_loss, LOGITS.softmax(1), CLASSES)


def raises(*_):
    raise ValueError("only my own outputs")


@pytest.mark.parametrize(
    ("loss_fn", "output", "target"),
    [
        (raises, LOGITS, CLASSES),
        (F.cross_entropy, {"logits": LOGITS}, CLASSES),
        (F.cross_entropy, LOGITS, None),
        (F.cross_entropy, LOGITS, torch.full((16,), -100)),
        (F.cross_entropy, LOGITS[:, :1], torch.zeros(16).long()),
        (lambda out, y: torch.ones(()), LOGITS, CLASSES),
        (F.cross_entropy, torch.randn(16, 4, 3), torch.zeros(16, 3).long()),
    ],
    ids="raises dict none ignored one-class constant segmentation".split(),
)
def test_what_cannot_be_asked_is_unknown(loss_fn, output, target):
    assert probe_loss(loss_fn, output, target).kind == "unknown"


def test_the_models_output_and_gradients_stay():
    leaf = torch.randn(16, 4, requires_grad=True)
    before = leaf.detach().clone()
    with torch.no_grad():
        assert probe_loss(F.cross_entropy, leaf, CLASSES).kind == "classes"
    assert leaf.grad is None
    assert torch.equal(leaf, before)


@pytest.mark.parametrize(
    ("loss_fn", "follows", "degree"),
    [(F.mse_loss, True, 2.0), (F.l1_loss, True, 1.0), (nn.HuberLoss(delta=0.01), True, 1.0),
     (lambda out, y: ((out - y) / y.abs().clamp_min(0.1)).square().mean(), False, 2.0)],
    ids="mse l1 huber relative".split(),
)  # fmt: skip
@pytest.mark.parametrize("shape", [(16, 2), (32, 1)])
def test_losses_of_errors_alone_are_told_with_their_power(loss_fn, follows, degree, shape):
    facts = probe_loss(loss_fn, torch.randn(16, 2).reshape(shape), TARGETS.reshape(shape))
    assert (facts.kind, facts.follows_shift, facts.degree) == ("values", follows, degree)


def test_the_same_is_told_where_output_and_target_differ_in_shape():
    facts = probe_loss(lambda out, y: F.l1_loss(out.squeeze(1), y), torch.randn(16, 1), TARGETS[:, 0])
    assert (facts.kind, facts.pairs_all, facts.follows_shift, facts.degree) == ("values", False, True, 1.0)


FREE = LOGITS.clone().requires_grad_()


@pytest.mark.parametrize("target", [torch.full((16,), 4), torch.tensor([-1] + [0] * 15)])
def test_classes_that_the_output_has_not_are_not_asked_about(target):
    assert probe_loss(lambda out, y: F.cross_entropy(out, y.clamp(0, 3)), LOGITS, target).kind == "unknown"


def test_slopes_and_floors_are_told_as_numbers():
    fits = probe_loss(F.cross_entropy, LOGITS, CLASSES)
    assert (fits.prefers_right, fits.is_bounded, fits.is_finite, fits.is_floorless) == (True, True, True, False)
    assert fits.slope_when_wrong > 1.0
    assert fits.stuck_share == 0.0
    twice = probe_loss(lambda out, y: F.cross_entropy(out.softmax(1), y), LOGITS, CLASSES)
    assert twice.slope_when_wrong < 1e-3
    falling = probe_loss(F.nll_loss, LOGITS, CLASSES)
    assert not falling.is_bounded
    shares = probe_loss(F.nll_loss, LOGITS.softmax(1), CLASSES)
    assert shares.is_floorless
    assert 0.3 < shares.stuck_share <= 1.0
    far = probe_loss(F.mse_loss, SIGMOIDS, TARGETS)
    assert far.out_of_reach == pytest.approx(float(((TARGETS < 0) | (TARGETS > 1)).float().mean()), abs=0.01)


def test_a_loss_that_refuses_answers_or_targets_of_ours_is_asked_no_further():
    def loss(output, target):
        if bool((target > 1).any()):
            raise fl.DataError(what="A target is no probability.", where="here", received="2", do="return 0 or 1")
        return F.binary_cross_entropy_with_logits(output.reshape(target.shape), target)

    assert probe_loss(loss, LOGITS[:, :1], LABELS[:, 0]).kind == "values"


@pytest.mark.parametrize("reduce", [torch.mean, torch.sum])
def test_every_pair_is_told_from_every_row(reduce):
    def all_pairs(out, y):
        return reduce((out - y).square())

    def by_row(out, y):
        return reduce((out.squeeze(1) - y).square())

    column, flat = torch.randn(16, 1), TARGETS[:, 0]
    assert probe_loss(all_pairs, column, flat).pairs_all
    assert not probe_loss(by_row, column, flat).pairs_all
    assert not probe_loss(all_pairs, torch.ones(16, 1), torch.ones(16)).pairs_all  # all the same: who can tell
    assert probe_loss(all_pairs, column[:3], flat[:3]).pairs_all


def test_a_loss_that_compares_rows_with_each_other_is_told_by_its_halves():
    for count in (16, 15, 1):
        facts = probe_loss(F.cross_entropy, LOGITS[:count], CLASSES[:count])
        assert (facts.kind, facts.prefers_right) == ("classes", True)
    assert probe_loss(lambda out, y: F.cross_entropy(out, y, reduction="sum"), LOGITS, CLASSES).kind == "classes"
    assert probe_loss(lambda out, y: (out - out.mean(0)).square().mean(), LOGITS, CLASSES).kind == "unknown"


def margin(output, target):
    distances, is_same = torch.cdist(output, output), target[:, None] == target[None]
    return F.relu(1 + torch.where(is_same, distances, -distances)).mean()


@pytest.mark.parametrize("count", [16, 15])
def test_pairs_of_outputs_that_are_still_alike_stand_for_no_classes(count):
    assert probe_loss(margin, 1e-4 * LOGITS[:count], CLASSES[:count]).kind == "unknown"
    assert probe_loss(F.cross_entropy, 1e-4 * LOGITS[:count], CLASSES[:count]).prefers_right
    assert not probe_loss(lambda out, y: -F.cross_entropy(out, y), 1e-4 * LOGITS[:count], CLASSES[:count]).prefers_right


def test_probabilities_that_are_nearly_ones_are_asked_as_such():
    shares = LOGITS.softmax(1)
    assert probe_loss(F.cross_entropy, shares * 1.0005, CLASSES).reach == (0.0, 1.0)
    assert probe_loss(F.cross_entropy, shares * 1.01, CLASSES).reach == (-math.inf, math.inf)
    negative = shares.clone()
    negative[:, 0] -= 2
    negative[:, 1] += 2
    assert probe_loss(F.cross_entropy, negative, CLASSES).reach == (-math.inf, math.inf)


def test_precise_outputs_are_asked_precisely_and_half_ones_in_float32():
    seen = []

    def loss_fn(out, y):
        seen.append(out.dtype)
        return F.cross_entropy(out, y)

    probe_loss(loss_fn, LOGITS.double(), CLASSES)
    assert set(seen) == {torch.float64}
    seen.clear()
    probe_loss(loss_fn, LOGITS.half(), CLASSES)
    assert set(seen) == {torch.float32}


def test_a_critic_falls_without_end_on_both_sides_and_labels_on_one():
    assert probe_loss(lambda out, y: -(out * y).mean(), torch.randn(16, 2), SIDES).is_bounded
    assert not probe_loss(F.binary_cross_entropy_with_logits, torch.randn(16, 2), SIDES).is_bounded
    assert probe_loss(F.soft_margin_loss, torch.randn(16, 2), SIDES).is_bounded


@pytest.mark.parametrize("count", [16, 15, 1])
def test_a_loss_that_looks_at_no_target_prefers_nothing(count):
    def of_size(output, target):
        return (output.square().sum(1) - 1).square().mean()

    facts = probe_loss(of_size, LOGITS[:count], CLASSES[:count])
    assert (facts.kind, facts.prefers_right) == ("classes", False)


@pytest.mark.parametrize(
    ("function", "best"), [("tanh", math.log(1 + 3 * math.exp(-2))), ("sigmoid", math.log(1 + 3 * math.exp(-1)))]
)
def test_the_share_of_a_loss_that_a_range_cannot_take_off(function, best):
    """Of four classes: the logits of the right one are at the top of the range, all others at its bottom."""
    facts = probe_loss(F.cross_entropy, getattr(FREE, function)(), CLASSES)
    assert facts.stuck_share == pytest.approx(best / math.log(4), rel=1e-3)
    assert probe_loss(F.cross_entropy, FREE.relu(), CLASSES).stuck_share == pytest.approx(0.0, abs=1e-3)


def test_an_answer_that_costs_minus_infinity_costs_least():
    def log_error(output, target):
        return (output - target.clamp_min(0.1).log()).abs().log().mean()  # minus infinity at the log of the targets

    facts = probe_loss(log_error, torch.randn(16, 2), COUNTS + 2)
    assert facts.prefers_right


@pytest.mark.parametrize(
    ("loss_fn", "share"),
    [(F.cross_entropy, math.log(1 + 3 * math.exp(-1)) / math.log(4)), (lambda out, y: F.nll_loss(out.log(), y), 0.0),
     (F.nll_loss, 0.95)],
    ids="shares-as-logits logs-of-shares shares-as-logs".split(),
)  # fmt: skip
def test_the_share_of_a_loss_that_shares_of_a_whole_cannot_take_off(loss_fn, share):
    assert probe_loss(loss_fn, LOGITS.softmax(1), CLASSES).stuck_share == pytest.approx(share, abs=1e-3)


def test_a_loss_of_labels_that_no_answer_moves_is_stuck_in_nothing():
    facts = probe_loss(lambda p, y: (p - p).mean() + 1, SIGMOIDS, LABELS)
    assert (facts.prefers_right, facts.stuck_share) == (False, 0.0)


@pytest.mark.parametrize(
    ("extra", "is_by_row"), [(0.0, True), (5e-4, True), (2e-3, False)], ids=["mean", "within", "beyond"]
)
def test_a_loss_is_one_of_rows_if_halves_add_up_to_it_within_a_thousandth(extra, is_by_row):
    output, target = torch.ones(8, 2), torch.zeros(8, 2)

    def loss_fn(output, target):
        mean = (output - target).square().mean()
        return mean * (1 + extra) if len(output) == 8 else mean

    assert _is_by_row(loss_fn, output, target) is is_by_row
    assert _is_by_row(lambda output, target: (output - target).square().sum(), output, target)


def test_within_a_range_a_loss_that_no_answer_moves_or_that_has_a_gap_is_stuck_in_nothing():
    def without_slope(output, target):
        return (output - output).mean() + 1

    def with_gap(output, target):
        size = float(output.detach().abs().max())
        return F.cross_entropy(output, target) + (math.inf if 0 < size <= 1 else 0.0)

    for loss_fn in (without_slope, with_gap):
        assert probe_loss(loss_fn, FREE.tanh(), CLASSES).stuck_share == 0.0


LINE = torch.linspace(-2, 2, 32, requires_grad=True).view(16, 2)


@pytest.mark.parametrize(
    ("output", "kind"),
    [(LINE.detach().abs(), "unknown"), (LINE.detach() + 2, "unknown"), (LINE, "values"), (LINE.sigmoid(), "values")],
    ids="distances one-is-0 signed probabilities".split(),
)
def test_outputs_that_are_never_negative_may_be_distances(output, kind):
    """A label of 1 asks for a small one: what is below 0, and a probability, asks for no distance."""
    assert probe_loss(lambda out, y: (y * out - (1 - y) * out).mean(), output, LABELS).kind == kind


def test_a_loss_that_takes_no_notice_of_its_target_is_not_probed_by_it():
    critic = nn.Linear(2, 1)

    def of_a_generator(output, _):
        score = critic(output)
        return F.binary_cross_entropy_with_logits(score, torch.ones_like(score))

    assert probe_loss(of_a_generator, LOGITS[:, :2], LABELS).kind == "unknown"
    assert probe_loss(F.mse_loss, LOGITS[:, :2], LABELS).kind == "values"
    assert probe_loss(F.mse_loss, LOGITS[:, :2], TARGETS).kind == "values"


def test_labels_by_number_that_one_sigmoid_cannot_give_are_counted():
    classes = torch.arange(24) % 3

    def by_hand(p, t):
        p = p.clamp(1e-7, 1 - 1e-7)
        t = t.reshape(-1, 1).float()
        return -(t * p.log() + (1 - t) * (1 - p).log()).mean()

    sure = torch.randn(24, 1, requires_grad=True).sigmoid()
    assert probe_loss(by_hand, sure, classes).out_of_reach == pytest.approx(1 / 3)
    assert probe_loss(by_hand, sure, classes.float()).out_of_reach == pytest.approx(1 / 3)
    assert probe_loss(by_hand, sure, classes % 2).out_of_reach == 0
    assert probe_loss(by_hand, torch.randn(24, 1, requires_grad=True) * 1, classes).out_of_reach == 0
