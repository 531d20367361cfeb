"""FL404: a network that is no better than the constant-prediction baseline on held-out samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import ENOUGH_EPOCHS, LEARNS, STEPS_TO_LEARN
from frostline.diagnosis.rules.reading import loss_levels

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL404", "nothing is learnt", "learning_rate",
    "check that every input still belongs to its target: shuffle both together, or neither. Then train on one batch "
    "alone, without dropout and weight decay: a network that cannot learn it by heart is broken (a detach, a wrong "
    "axis, layers that are not in the optimizer); one that can needs more steps, more layers or inputs that "
    "predict the targets, or is held back by dropout, weight decay or rare classes.",
    8,
)  # fmt: skip
_APART = (
    "check that every input still belongs to its target: shuffle, crop and flip both together, or neither; print a few "
    "pairs. If they belong together, look for inputs whose axes are mixed (a view or reshape where a transpose is "
    "meant), or for inputs that do not predict the targets."
)
_BROKEN = (
    "take a larger learning rate or Adam first; if one batch alone is still not learnt, without dropout and weight "
    "decay, the network is broken: look for a detach, a wrong axis, layers that are not in the optimizer."
)
_SHIFTED = (
    "give each row its own target: look for a roll, a flip or an index that is off by one where targets are read, "
    "x[at], y[at] in place of x[at], y[at + 1], and for a sort of one of both."
)
_SAME = (
    "print a few inputs where they enter the model, batch[0][:3]: look for a cast to integers after a division, a crop "
    "of the same place, a file that is read again and again, or an index that does not move."
)
_COLLAPSED = (
    "look for the term of the loss that pulls all outputs to one, and take a hundredth of it: the weight of the "
    "divergence of an autoencoder, a penalty on outputs. If there is none, divide the learning rate by 10."
)
_ALIKE = (
    "a loss that pulls outputs together and pushes none apart is least where all are the same: detach the targets that "
    "the network makes itself (z.detach(), a copy under torch.no_grad()), add negatives, or a term for the variance. "
    "If the loss has these, divide the learning rate by 10."
)
_LONGER = "look again after three epochs or more: healthy networks may need as many."
# Shuffled labels save up to 0.04 by luck, of 64 held-out samples; soft labels at their entropy, of 200 classes, 0.07.
_NONE, _LITTLE, _SOME = 0.005, 0.02, 0.05
# Of a variational autoencoder 0.47 after training, and 0.11 before; at ten times the weight of its divergence 0.003.
_FOLLOWS, _FOLLOWED = 0.01, 10.0
# Of BYOL, SimCLR, prototypes and classifiers 0.55 to 0.97 after training; of a twin without a stopped gradient 0.016.
_APART_AT_LEAST, _APART_BEFORE = 0.05, 4.0
_STAYS = 0.95  # of the first loss is left
_FAR = 4.0  # times what the last losses scatter


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How much better the model is than the constant-prediction baseline, on samples that it was not trained on."""
    skill, steps = evidence.skill, len(evidence.losses)
    if skill is None:
        return (
            _collapse(evidence)
            or _stays(evidence)
            or (ABOUT.left_to_checkup("the loss of the constant-prediction baseline is not known"),)
        )
    if skill > LEARNS:
        return (
            ABOUT.passed(
                f"on held-out samples the model is {skill:.0%} better than the constant-prediction baseline.",
                skill,
                LEARNS,
            ),
        )
    if steps < STEPS_TO_LEARN:
        few = f"{steps} steps are too few to say that a network cannot learn ({STEPS_TO_LEARN} are needed)"
        return (ABOUT.not_judged(f"{few}: this one has learnt nothing yet."),)
    fall = _fall(evidence)
    if skill > _SOME and fall is not None:
        first, last = fall
        why = (
            f"on held-out samples the model is {skill:.0%} better than the constant-prediction baseline, and the "
            f"training loss fell from {first:.3g} to {last:.3g}: the rest of it may be noise in the targets."
        )
        return (ABOUT.passed(why, skill, LEARNS),)
    why = f"after {steps} steps, the model is no better on held-out samples than the constant-prediction baseline."
    if skill > _NONE:
        why = f"after {steps} steps, the held-out loss is at most {skill:.0%} below the constant-prediction baseline."
    of_data = _of_data(evidence, why, skill)
    if of_data is not None:
        return (of_data,)
    if evidence.counterparts is not None:
        return (ABOUT.passed(f"{why} FL517 names the part that holds it back.", skill, LEARNS),)
    if evidence.modes is not None and evidence.modes.is_constant:
        why = f"{why} It gives the same output for every input."
        return (ABOUT.issue(why, skill, LEARNS),)
    found = ABOUT.tip(why, skill, LEARNS)
    is_short = evidence.epochs is not None and evidence.epochs < ENOUGH_EPOCHS
    is_of_rows = evidence.loss is not None and evidence.loss.kind != "unknown"  # triplets compare rows with each other
    if evidence.is_learnt_by_heart is True and is_of_rows and skill <= _LITTLE and not is_short:
        why = f"{why} Yet it learns one batch by heart: it can learn, and what it learns holds for no other sample."
        return (replace(ABOUT.issue(why, skill, LEARNS), advice=_APART),)
    if evidence.is_learnt_by_heart is False:
        return (replace(found, why=f"{why} It does not even learn one batch by heart.", advice=_BROKEN),)
    if is_short:
        advice = f"{_LONGER} If it still learns nothing then: {found.advice}"
        found = replace(found, why=f"{why} The training is too short to conclude more.", advice=advice)
    return (found,)


def _of_data(evidence: Evidence, why: str, skill: float) -> Finding | None:
    """Targets of other rows, or inputs that are all the same."""
    if evidence.shifts is not None and evidence.shifts.instead:
        shifts = evidence.shifts
        why = (
            f"{why} A linear model reads {shifts.own:.0%} of a row's own target of its input, and {shifts.read:.0%} of "
            f"the target of {shifts.instead}."
        )
        return replace(ABOUT.issue(why, skill, LEARNS), advice=_SHIFTED, family="targets")
    if evidence.inputs_vary is False:
        why = f"{why} All inputs of a batch are the same, value by value: nothing can be learnt from them."
        return replace(ABOUT.issue(why, skill, LEARNS), advice=_SAME)
    return None


def _collapse(evidence: Evidence) -> tuple[Finding, ...]:
    """Outputs that differed before training, and hardly do now; none where that is not so, or not known."""
    steps = len(evidence.losses)
    if steps < STEPS_TO_LEARN:
        return ()
    before, after = evidence.follows or (0.0, 1.0)
    if after < _FOLLOWS and before > _FOLLOWED * after:
        why = (
            f"after {steps} steps, the outputs hardly change with the inputs: by {after:.2g} of their spread, "
            f"{before:.2g} before the first step."
        )
        return (replace(ABOUT.issue(why, after, _FOLLOWS), advice=_COLLAPSED),)
    before, after = evidence.directions or (0.0, 1.0)
    if after < _APART_AT_LEAST and before > _APART_BEFORE * after:
        why = (
            f"after {steps} steps, what the model gives for different rows points the same way: its unit vectors lie "
            f"{after:.2g} apart, {before:.2g} before the first step."
        )
        return (replace(ABOUT.issue(why, after, _APART_AT_LEAST), advice=_ALIKE),)
    return ()


def _stays(evidence: Evidence) -> tuple[Finding, ...]:
    """A loss that has not fallen in a checkup, where nothing else is known of what is learnt."""
    levels, steps = loss_levels(evidence), len(evidence.losses)
    if evidence.stands_still is not False or levels is None or steps < STEPS_TO_LEARN:
        return ()
    first, best, last, _ = levels
    if first <= 0 or last < _STAYS * first or best < _STAYS * first:
        return ()
    why = (
        f"in {steps} steps the loss went from {first:.3g} to {last:.3g}, and no better was seen: nothing seems to be "
        "learnt. (The losses of agents and of adversaries need not fall.)"
    )
    return (ABOUT.tip(why, last / first, _STAYS),)


def _fall(evidence: Evidence) -> tuple[float, float] | None:
    """(first, last) training loss, if it fell by far more than it scatters; a loss may not reach zero (soft labels)."""
    levels = loss_levels(evidence)
    if levels is None:
        return None
    first, _, last, noise = levels
    return (first, last) if first - last > _FAR * noise else None
