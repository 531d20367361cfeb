"""FL503: an output layer and a loss that do not fit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.loss_records import LossAim, LossDomain, LossFacts, OutputBound
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL503", "output and loss do not fit", "loss_mismatch",
    "give cross_entropy raw logits (no softmax before it), nll_loss log-probabilities, "
    "binary_cross_entropy_with_logits no sigmoid, and class indices a loss for classes.",
    9,
)  # fmt: skip
# A loss that fits pushes at least as hard where the answer is certain and wrong as where there is none; squared error
# and cross-entropy do, softmax before either loses all slope there.
_SLOPE, _STUCK, _REACH = 0.05, 0.3, 0.2
_UNCOUNTED = 0.1  # of the samples of a batch
_RARE, _WEIGHS = 3.0, 5.0  # times as many rows, that count so many times as much each: RetinaNet's 0.25 counts three
_RANGE = 1.3  # between logits of right and wrong; SimCLR's least temperature, 0.5, allows 2
_RIGHT = 0.6  # of the answers
_LEARNT = 0.8  # of what is right beyond the constant-prediction baseline: the loss has led there
_MASK = (
    "let the other targets count: a mask that is the other way round (mask = target != padding is 1 where a target "
    "counts), or ignore_index= of a class that is asked for."
)
_SIGN = (
    "look at the sign of the terms with output {0!r}: a penalty is added, loss = error + weight * divergence, with "
    "divergence = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum(1).mean()."
)
_REPELS, _RISES = 1.1, 0.5
_PAIRS = (
    "exchange what is drawn together and what is pushed apart: relu(distance to the same class - distance to another + "
    "margin), likeness of pairs of one class above that of others, labels of pairs the other way round."
)
_BOUND = (
    "look for a ReLU, clamp or max behind output {0!r}, and leave it out; where values must be above 0, such as a "
    "variance, take exp or softplus, which have a slope everywhere; a logarithm needs no bound."
)
_CLAMP = (
    "leave out what bounds the outputs before the error is taken, such as output.clamp(0, 1) or a ReLU: beyond the "
    "bound there is no gradient. Clamp predictions after training, or where they are used."
)
_TRY_OUT = (
    "compare this loss with the usual one of such targets on outputs that are made by hand, loss_fn(target, target) "
    "against F.mse_loss(output, target) or F.cross_entropy(output, target): look at its sign, at a mean that is taken "
    "before the error, at the order of rows and columns, and at outputs that it does not use."
)
_EVERY_TERM = (
    "pass the model's output to every term of the loss, kl_div(output.log_softmax(1), teacher), and not the same "
    "target in both places; add the losses of several targets, and write none over another."
)
_ONE_HOT = (
    "a column of labels (N, 1) meets all outputs of its row by broadcast: give the loss labels of shape (N,) and take "
    "cross_entropy, or give it one column for each class (F.one_hot)."
)
_TWICE = (
    "if a softmax or sigmoid comes before a loss that has its own (cross_entropy, binary_cross_entropy_with_logits), "
    "remove it."
)
_ONE_VALUE = (
    "remove the softmax for targets that are numbers; for two classes, end in one logit with "
    "binary_cross_entropy_with_logits (a sigmoid), or in two logits with cross_entropy."
)
_LOGARITHMS = (
    "end the model in log_softmax in place of softmax (nn.LogSoftmax(dim=1)): this loss, such as nll_loss, expects "
    "log-probabilities. Without either it would fall without bound."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The loss of outputs that are right, wrong and confident."""
    facts = evidence.loss
    silent = ABOUT.left_to_checkup("the loss was not probed with other outputs than the model's")
    if facts is None:
        return (silent,)
    of_domain = _wrong_domain(facts.domain) or _wrong_terms(facts)
    if of_domain is not None:
        why, advice = of_domain
        return (replace(ABOUT.issue(why, None, None), advice=advice),)
    if facts.joined is not None and not facts.pairs_all:
        one, other = facts.joined
        why = f"the loss combines shapes {one} and {other}: every row meets every other row, and not its own alone."
        advice = "give both the same shape before they meet: output.squeeze(1) beside a target of shape (N,)."
        return (replace(ABOUT.issue(why, None, None), advice=advice),)
    over = evidence.axes.over_samples if evidence.axes is not None else ()
    if evidence.mixes and over:
        return (
            ABOUT.not_judged(f"{listed(over)} runs over the samples (FL506): outputs are not what they stand for."),
        )
    is_known = facts.kind != "unknown"
    wrong = _wrong(facts) if is_known else None
    found = wrong or _aims_elsewhere(facts.aim)
    if found is not None:
        why, advice, measured, limit = found
        is_refuted = wrong is None and evidence.right is not None and evidence.right > _LEARNT
        why += " Held-out samples are right all the same." if is_refuted else ""
        return (replace((ABOUT.tip if is_refuted else ABOUT.issue)(why, measured, limit), advice=advice),)
    unread = _unread(facts) or _bounded(evidence.bound)
    if unread is not None:
        return (unread,)
    if facts.kind == "classes" and facts.reach == (0.0, math.inf):
        why = "the model ends in a ReLU: outputs below zero become zero, and get no gradient."
        return (replace(ABOUT.tip(why, None, None), advice="remove the last ReLU: the loss expects logits."),)
    if not is_known and facts.aim.kind in ("", "ignored"):
        return (silent,)
    return (ABOUT.passed("correct outputs have the lowest loss, and wrong outputs get a gradient."),)


def _wrong_domain(domain: LossDomain) -> tuple[str, str] | None:
    """(why, what to do) where targets, outputs or classes are outside of what the loss takes."""
    if domain.largest_target is not None:
        high = domain.largest_target
        why = (
            f"the loss falls without bound as the outputs grow: it takes targets from 0 to 1, and these go to {high:g}."
        )
        return why, f"bring the targets to values from 0 to 1 where they are read: target = target / {high:g}."
    if domain.is_improper:
        why = (
            "targets are shares of several classes, and outputs that are surer than they are cost less and less: the "
            "loss is not lowest where the outputs are the targets."
        )
        advice = (
            "kl_div takes log-probabilities: F.kl_div(F.log_softmax(output, dim=1), target, reduction='batchmean')."
        )
        return why, advice
    if domain.falls_with_all:
        why = "the loss falls without bound as all outputs grow together, which prefers no class to another."
        advice = (
            "give this loss log-probabilities: output.log_softmax(dim) over the axis of the classes (ctc_loss and "
            "nll_loss do not take logits)."
        )
        return why, advice
    if domain.uncounted and (most := max(domain.uncounted, key=lambda one: one[1]))[1] >= _UNCOUNTED:
        label, share = most
        why = (
            f"the loss does not count the samples of class {label}, {share:.0%} of the first batch: none of their "
            "outputs costs anything."
        )
        advice = (
            f"look at weight= and ignore_index= of the loss: give class {label} a weight above 0, such as weight = 1 + "
            "log(counts.max() / counts), and let ignore_index be no class (-100)."
        )
        return why, _ONE_HOT if domain.is_column else advice
    return None


def _wrong_terms(facts: LossFacts) -> tuple[str, str] | None:
    """(why, what to do) where a term has no output in it, rare classes count less, or logits are bare cosines."""
    terms = facts.terms
    count, _, total = terms.columns
    if count:
        why = (
            f"a term of the loss changes with {count} of {total} columns of the target, and its slope for no output "
            "does: it has no output of the model in it."
        )
        return why, _EVERY_TERM
    if len(terms.weights) > 1 and facts.kind != "unknown":
        (rare, few, low), (common, many, high) = terms.weights[0], terms.weights[-1]
        if many > _RARE * few and high > _WEIGHS * low:
            why = (
                f"rows of class {rare}, {few:.1%} of all, count {low / high:.2g} times as much as those of class "
                f"{common}, {many:.1%} of all: the weights are the other way round."
            )
            return (
                why,
                "exchange the weights of the classes: weight = counts.max() / counts, the largest for the rarest.",
            )
    if terms.logit_range is not None and terms.logit_range < _RANGE:
        why = (
            f"outputs are embeddings of length 1, so that logits of right and wrong can differ by "
            f"{terms.logit_range:.2g} at most: the loss can hardly fall, whatever is learnt."
        )
        return why, "divide the cosines by a temperature before the loss: cross_entropy(likeness / 0.1, target)."
    return None


def _wrong(facts: LossFacts) -> tuple[str, str, float | None, float | None] | None:
    """(why, what to do, measured, limit) of the first thing that does not fit."""
    low, high = facts.reach
    given = f"values from {low:g} to {high:g}" if math.isfinite(high) else f"no value below {low:g}"
    of_kind = _wrong_kind(facts)
    if of_kind is not None:
        return *of_kind, None, None
    if not facts.prefers_right:
        why = "correct outputs do not have a lower loss than wrong ones."
        return why, "check the sign of the loss: training minimises it. " + ABOUT.advice, None, None
    if not facts.is_bounded:
        why = "the loss falls without bound as the outputs grow."
        advice = (
            "binary_cross_entropy_with_logits takes labels of 0 and 1 (not -1 and 1, or 1 and 2), nll_loss "
            "log-probabilities."
        )
        return why, advice, None, None
    if facts.slope_when_wrong < _SLOPE:
        slope = facts.slope_when_wrong
        why = f"for confident wrong outputs, the gradient of the loss is {slope:.0e} of that at the start."
        return why, _TWICE, slope, _SLOPE
    if facts.stuck_share > _STUCK:
        why = f"the model gives {given}; {facts.stuck_share:.0%} of this loss cannot be reduced within that range."
        if facts.is_floorless:
            return why, _LOGARITHMS, facts.stuck_share, _STUCK
        last = f"last activation (the {facts.last})" if facts.last else "last activation"
        return why, f"remove the model's {last}: this loss expects raw values (logits).", facts.stuck_share, _STUCK
    if facts.out_of_reach > _REACH:
        why = f"{facts.out_of_reach:.0%} of the targets are outside of the range of the model's last activation"
        advice = (
            "end the model in a layer without an activation, or scale the targets into its range; for classes by "
            "number (0, 1, 2), give one output for each class and take cross_entropy."
        )
        if facts.has_several:
            advice = "for labels of which several are true at once, end the model in a sigmoid instead of a softmax."
        return f"{why} ({given}).", advice, facts.out_of_reach, _REACH
    return None


def _wrong_kind(facts: LossFacts) -> tuple[str, str] | None:
    """(why, what to do) where outputs, targets and loss are of different kinds."""
    if facts.is_fixed:
        why = "the model ends in a softmax over a single value: every output is 1, whatever the weights are."
        return why, _ONE_VALUE
    if facts.pairs_all:
        why = "the shapes of output and target differ, so every output is compared with every target of the batch."
        return why, "give both the same shape: loss_fn(output.reshape(target.shape), target)."
    if facts.ignores_shifts:
        why = (
            "samples have several true labels, and the loss stays where all logits of a sample move together, as "
            "after a softmax: one true label can only grow at the cost of the others."
        )
        advice = (
            "for labels of which several are true at once, take a loss of each label on its own: "
            "binary_cross_entropy_with_logits (a sigmoid for each label) in place of cross_entropy."
        )
        return why, advice
    if facts.wants_probabilities and not facts.domain.is_soft:
        why = (
            "the loss is lowest at values of 0 and 1, and loses its meaning beyond them (it falls below that lowest "
            "value, or crosses a division by 0); the model gives raw values (logits)."
        )
        advice = "give this loss probabilities: loss_fn(output.sigmoid(), target), or a softmax for classes."
        return why, advice
    return None


def _aims_elsewhere(aim: LossAim) -> tuple[str, str, float | None, float | None] | None:
    """(why, what to do, measured, limit) where the loss leads outputs away from their targets, or to one of them."""
    if aim.counted is not None:
        share, value = aim.counted
        why = (
            f"{share:.0%} of the targets count in the loss, all of them {value:g}: the others, which vary, make no "
            "difference to it."
        )
        return why, _MASK, share, None
    if aim.unbounded:
        why = f"the loss falls without bound as output {aim.unbounded!r} moves along its slope."
        return why, _SIGN.format(aim.unbounded), None, None
    if aim.spread is not None and aim.spread > _REPELS:
        why = (
            f"embeddings that follow the slope of this loss, whatever network gives them, end {aim.spread:.2g} times "
            "as far from those of their own class as from those of others."
        )
        return why, _PAIRS, aim.spread, _REPELS
    if aim.reward > _RISES:
        why = (
            f"the slope of the loss at the action that was taken rises with its reward (correlation {aim.reward:.2g}): "
            "training makes rewarded actions rarer."
        )
        return why, "change the sign: loss = -(log_prob * advantage).mean(), which is minimised.", aim.reward, _RISES
    if aim.flat:
        why = f"{aim.flat:.0%} of the outputs that are made wrong here get no slope from the loss: they cannot improve."
        return why, _CLAMP, aim.flat, None
    if aim.right is not None and aim.classes > 1 and aim.right < _RIGHT:
        why = (
            f"outputs that follow the slope of this loss, whatever network gives them, end with {aim.right:.0%} right "
            f"answers ({aim.classes} classes): its lowest values are not where the answers are right."
        )
        return why, _TRY_OUT, aim.right, _RIGHT
    if aim.lost:
        where = "" if aim.columns == 1 else f" in columns {listed([str(at) for at in aim.lost])} of {aim.columns}"
        why = f"outputs that start near their targets and follow the slope of this loss do not come nearer{where}."
        why += f" They move to {aim.instead}." if aim.instead else ""
        return why, _TRY_OUT, float(len(aim.lost)), 0.0
    return None


def _bounded(bound: OutputBound | None) -> Finding | None:
    """An output that stays on a bound though the loss would fall beyond it."""
    if bound is None:
        return None
    why = (
        f"after training, {bound.share:.0%} of output {bound.name!r} are exactly {bound.value:g}, and the loss would "
        "fall further beyond that: something bounds it, and has no slope there."
    )
    return replace(ABOUT.tip(why, bound.share, None), advice=_BOUND.format(bound.name))


def _unread(facts: LossFacts) -> Finding | None:
    """Columns of the target that the loss does not read, or that drown the others; some may be there for a metric."""
    if facts.aim.loudest is not None:
        at, count, times = facts.aim.loudest
        why = f"column {at} of {count} of the output has {times:.0f} times the slope of the usual one: it drowns them."
        advice = f"bring the terms of the loss to one size: standardise the targets of column {at}, or weigh its term."
        return replace(ABOUT.tip(why, times, None), advice=advice)
    _, unread, total = facts.terms.columns
    if not 2 * unread >= total > 0:
        return None
    why = f"the loss stays, for any output, where {unread} of {total} columns of the target are exchanged between rows."
    return replace(ABOUT.tip(why, float(unread), total / 2), advice=_EVERY_TERM)
