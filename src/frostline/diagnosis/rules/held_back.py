"""FL517: the part that keeps a network from learning, by comparison with a plain one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL517", "one part holds it back", "wiring",
    "look into forward, where the same data are lost that a plain network learns from: print shapes and values of each "
    "step for two samples, and look for a wrong axis, a reshape for a transpose, a slice or mask that leaves out what "
    "counts, a missing activation or residual, an input that is not used.",
    7,
)  # fmt: skip
_LOSS = (
    "look at the loss, line by line, against {by}, with which the same network learns: its sign, its axis, a reduction "
    "that is taken too early, weights and masks, the order of rows and columns; or take {by}."
)
_OPTIMIZER = (
    "take torch.optim.Adam(model.parameters(), lr=1e-3) in place of this optimizer, or its usual settings and another "
    "learning rate."
)
_SIGN = (
    "look at the sign in the step of the optimizer: weight = weight - lr * gradient, parameter.add_(gradient, "
    "alpha=-lr); and leave maximize=True out."
)
_UP = 0.05  # a cosine; that of a weight decay alone is that of weights with the gradient, near 0
_FAMILIES = {"loss": "loss_mismatch", "optimizer": "learning_rate", "network": "wiring"}


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """An issue where the network learns nothing as it is; a tip where it learns something."""
    facts = evidence.counterparts
    if evidence.climbs is not None and evidence.climbs > _UP:
        why = (
            "a first step of the optimizer moves the weights up the slope of the loss (cosine with the gradient "
            f"{evidence.climbs:.2f}), and not down: it maximises the loss."
        )
        found = ABOUT.issue(why, evidence.climbs, 0.0)
        return (replace(found, advice=_SIGN, family=_FAMILIES["optimizer"]),)
    if facts is None:
        return (ABOUT.not_applicable("no part was swapped for a plain one that learns by far more."),)
    own = f"{facts.own:.0%} as it is, {facts.swapped:.0%}"
    subject = {
        "loss": f"the loss holds it back: {{}} {own} for the same network with {facts.by}.",
        "optimizer": f"the optimizer holds it back: {{}} {own} with Adam.",
        "network": f"the network itself holds it back: {{}} {own} for a plain network.",
    }[facts.part]
    if facts.is_of_loss:
        why = subject.format("of the loss of the constant-prediction baseline, held-out samples save")
        why += " All on the same batches."
    else:
        why = subject.format("held-out samples are right to")
        why += f" All on the same batches; the constant-prediction baseline gets {facts.least:.0%}."
    if facts.part == "optimizer" and facts.settings:
        why += f" Its settings: {facts.settings}."
    advice = {"loss": _LOSS.format(by=facts.by), "optimizer": _OPTIMIZER}.get(facts.part, ABOUT.advice)
    is_nothing = evidence.skill is not None and evidence.skill <= LEARNS
    found = (ABOUT.issue if is_nothing else ABOUT.tip)(why, facts.own, facts.swapped)
    return (replace(found, advice=advice, family=_FAMILIES[facts.part]),)
