"""FL518: gradients that are not the slope of what they are of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import listed

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL518", "a gradient is not the slope", "wiring",
    "compare the backward of this function with its forward: torch.autograd.gradcheck({name}.apply, (inputs in double "
    "precision with requires_grad,)); look for a sign, a factor, a missing term of a product, tensors that were saved "
    "in another order, or a broadcast axis that is not summed.",
    8,
)  # fmt: skip
_CUT = (
    "look for what keeps a part of the gradient from coming back to these weights: a detach, .data, torch.no_grad() or "
    "a new tensor on one of several ways through forward; torch.autograd.grad without create_graph=True where a step "
    "is taken within forward. On purpose, as in a straight-through estimator or a stop-gradient, it is no fault."
)
_WELL = 0.8  # of the loss of the baseline is saved all the same


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """A wrong backward of a function is an issue; a gradient that is cut on one of several ways may be meant."""
    facts = evidence.slopes
    if facts is None:
        return (ABOUT.left_to_checkup("gradients were not compared with differences"),)
    if facts.functions:
        one = facts.functions[0]
        where = f" in layer {one.layer!r}" if one.layer else ""
        why = (
            f"the backward of {one.name}{where} is not the slope of its forward: along a random direction it gives "
            f"{one.given:.3g}, and differences of its outputs {one.measured:.3g}."
        )
        found = ABOUT.issue(why, one.given, one.measured, one.layer or None)
        return (replace(found, advice=found.advice.replace("{name}", one.name)),)
    if facts.cut and (evidence.skill is None or evidence.skill < _WELL):
        names = listed([repr(name) if name else "the model" for name, _ in facts.cut])
        share = min((share for _, share in facts.cut), key=lambda one: -abs(one - 1))
        why = (
            f"the gradient of {names} is not the slope of the output: along itself it gives {share:.2g} times what "
            "differences of the output do."
        )
        layer = facts.cut[0][0] if len(facts.cut) == 1 else None
        return (replace(ABOUT.tip(why, share, 1.0, layer or None), advice=_CUT),)
    if not facts.asked:
        return (ABOUT.not_judged("the model does not run in double precision, so that nothing was compared."),)
    return (ABOUT.passed("gradients are the slopes that differences show."),)
