"""FL406: a training in which no weight changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence
    from frostline.diagnosis.rules.wiring_records import LoopFacts

ABOUT = About(
    "FL406", "no weight changes", "learning_rate",
    "look at what stands between backward() and optimizer.step(): the learning rate, a clip, a hook, zero_grad().",
    9,
)  # fmt: skip
_RATE = "set a learning rate above 0."
_LOSS = (
    "look for what takes the gradient away between outputs and loss: argmax, round, a comparison (==, >), a cast to "
    "integers, .item() or a new tensor; or what makes the loss constant: outputs in a range that it cannot use, "
    "weights of 0, dead units."
)
_CONSTANT = (
    "look into the loss for what makes it constant: a mask that selects nothing or the wrong entries (max of a masked "
    "infinity), a clamp or relu that is always at its limit, a sum of probabilities."
)
_FEWEST = 20  # steps, after which a constant loss is no chance
_CLIP = (
    "raise the threshold of the clip (clip_grad_norm_ with 0 sets all gradients to 0), or leave the clip out; do not "
    "call zero_grad() between backward() and optimizer.step()."
)
_NO_STEP = (
    "call optimizer.step() after backward(), and look at the condition around it: a check of the gradients that "
    "returns the contrary, a count of batches that is never reached."
)
_ONE_STEP = (
    "call optimizer.step() inside the loop over batches, after each backward(); to accumulate on purpose, call "
    "zero_grad() after a step only, and divide the loss by the number of batches."
)
_ANOTHER = (
    "make the optimizer once, before the loop over epochs: optimizer = torch.optim.SGD(model.parameters(), ...); one "
    "that is made anew has lost its momentum and its statistics. Pass the one that steps to the monitor."
)
_NO_GRADIENT = (
    "call loss.backward() between zero_grad() and optimizer.step(), in every branch, and let the loss depend on what "
    "the model gives in this very step: look for a condition that skips the forward pass, a flag that is not reset for "
    "the next episode (done = False), a detach, .item() or torch.no_grad()."
)
_MANY = 8  # passes for one step; through a critic, a generator sends one beside its own


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Whether all trainable parameters are, to the bit, what they were before the training."""
    of_loop = _in_loop(evidence.loop) if evidence.loop is not None else None
    if of_loop is not None:
        why, advice = of_loop
        return (replace(ABOUT.issue(why, 0.0, 0.0), advice=advice),)
    if evidence.stands_still is None:
        return (ABOUT.not_judged("the weights before and after training were not compared."),)
    if not evidence.stands_still:
        return (ABOUT.passed("weights have changed."),)
    why = f"after {len(evidence.losses)} steps all trainable parameters are, to the bit, what they were before."
    if not evidence.still_gradient:
        why = f"{why} The loss has no gradient for them."
        losses = {loss for _, loss in evidence.losses}
        if len(losses) == 1 and len(evidence.losses) >= _FEWEST:
            why = f"{why} It is {losses.pop():.3g} at every step, whatever the model answers."
            return (replace(ABOUT.issue(why, 0.0, 0.0), advice=_CONSTANT),)
        is_nothing = evidence.skill is not None and evidence.skill <= LEARNS and len(evidence.losses) >= _FEWEST
        return (replace((ABOUT.issue if is_nothing else ABOUT.tip)(why, 0.0, 0.0), advice=_LOSS),)
    if evidence.optimizer.lr == 0:
        return (replace(ABOUT.issue(f"{why} The learning rate is 0.", 0.0, 0.0), advice=_RATE),)
    norm = f"a plain backward pass gives gradients of norm {evidence.still_gradient:.3g}"
    if evidence.gradient_norms and not any(evidence.gradient_norms):
        why = f"{why} Their gradients are 0 when the optimizer takes them; {norm}."
        return (replace(ABOUT.issue(why, 0.0, 0.0), advice=_CLIP),)
    return (ABOUT.issue(f"{why} Yet {norm}.", 0.0, 0.0),)


def _in_loop(loop: LoopFacts) -> tuple[str, str] | None:
    """(why, what to do) where a loop computes gradients that no step uses, or that of another optimizer does."""
    if loop.reported >= _FEWEST and not loop.steps and not loop.has_moved:
        return f"{loop.reported} losses were reported, and the optimizer has not stepped once.", _NO_STEP
    if loop.unmoved >= _FEWEST and 2 * loop.unmoved >= loop.reported:
        before = "" if loop.unmoved >= loop.reported else f" since loss {loop.reported - loop.unmoved}"
        why = (
            f"the optimizer has stepped before the last {loop.unmoved} of {loop.reported} reported losses and written "
            f"to no weight{before}: none of them had a gradient."
        )
        return why, _NO_GRADIENT
    if loop.cleared >= _MANY:
        why = (
            f"a step follows at least {loop.cleared} backward passes and gets the gradient of the last one alone: "
            "those of the others are cleared before they are used."
        )
        return why, _ONE_STEP
    if loop.others >= _FEWEST and loop.others > loop.steps > 0:
        why = (
            f"the weights were moved before {loop.others} of {loop.reported} reported losses without a step of this "
            f"optimizer, which has stepped {loop.steps} times: another one moves them, made later in the loop."
        )
        return why, _ANOTHER
    return None
