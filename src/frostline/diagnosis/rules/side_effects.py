"""FL516: a pass that changes what it is given, or what the next one begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL516", "a pass has side effects", "side_effects",
    "let forward and the loss change nothing but their result: no operation in place on what they are given (x = x - "
    "mean, not x -= mean; no masked_fill_, no x[...] = ...), no train(), eval() or manual_seed() inside.",
    9,
)  # fmt: skip
_INPUTS = (
    "make a new tensor in place of a change in place: x = x - mean (not x -= mean), x = x.masked_fill(...) (not "
    "masked_fill_), x = x.clone() first; the data set holds the changed values from then on."
)
_TARGETS = (
    "make a new target in the loss: target = target.clone() before target[...] = ..., masked_fill in place of "
    "masked_fill_; the data set holds the changed labels from then on."
)
_WEIGHTS = "draw or change weights once, in __init__ or before training, and not in forward."
_MODES = (
    "take train() and eval() out of forward: call model.train() before the batches of an epoch, and model.eval() "
    "before validation."
)
_SEED = (
    "take manual_seed() out of forward and of the loss: seed once, before training. Dropout, noise and the order of "
    "the data are the same at every step otherwise; for noise of your own pass generator=torch.Generator()."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """What was different after a pass: an issue, unless the same values come of it when they are given again."""
    facts = evidence.effects
    if facts is None:
        return (ABOUT.left_to_checkup("passes were not compared with what they were given"),)
    found: list[Finding] = []

    def add(why: str, advice: str, family: str = ABOUT.family) -> None:
        found.append(replace(ABOUT.issue(why, None, None), advice=advice, family=family))

    if facts.weights:
        add(
            f"a forward pass writes to the weights {listed(facts.weights)}: what they learn is lost.",
            _WEIGHTS,
            "wiring",
        )
    if facts.inputs or facts.inputs_in_loss:
        where = "a forward pass" if facts.inputs else "the loss"
        add(f"{where} changes its inputs in place: the same rows are other rows when they come again.", _INPUTS)
    if facts.targets:
        add(
            "the loss changes its targets in place: the same rows have other targets when they come again.",
            _TARGETS,
            "targets",
        )
    if facts.modes:
        names = listed([name or "the model" for name in facts.modes])
        add(f"a forward pass changes the mode of {names} (training or evaluation).", _MODES, "mode")
    if facts.reseeds:
        add("a forward pass sets the seed of all random numbers: the same ones are drawn at every step.", _SEED, "mode")
    if facts.settled:
        why = "a pass changes what it is given in place, once: the same rows give the same when they come again."
        found.append(replace(ABOUT.tip(why, None, None), advice=_INPUTS))
    return tuple(found) or (ABOUT.passed("a pass changes nothing but its result."),)
