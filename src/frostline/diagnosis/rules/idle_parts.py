"""FL405: parts that ask for gradients, and never move."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import draw
from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.reading import listed, weighted_layers
from frostline.diagnosis.rules.wiring_records import NO_SLOPE, UNHELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL405", "parts that do not train", "wiring",
    "if they are meant to train: make the optimizer once the model is complete, over model.parameters(), at a rate "
    "above 0, and keep them in the graph (no detach, no torch.no_grad). If not, freeze them, which saves their "
    "gradients and lets them be cached: fl.freeze(model, patterns=...), with their names.",
    9,
)  # fmt: skip
_IN_INIT = "make these layers once, in __init__ (self.layer = nn.Linear(...)), and call them in forward."
_CUT_OFF = (
    "the loss depends on the values of these parts, and no gradient comes back: take away what stands between (detach, "
    ".data, torch.no_grad, a NumPy array)."
)
_IN_LOSS = (
    "if they are part of the loss (centres, weights of tasks), give them to the optimizer: [*model.parameters(), "
    "*loss.parameters()]. A critic or a network that compares features is no fault; requires_grad_(False) saves its "
    "gradients."
)
_DROPPED = (
    "these layers run in forward, and what they give is not used: look for a variable that is overwritten or misspelt, "
    "such as self.second(inputs) where self.second(hidden) is meant."
)
_UNHEARD = (
    "if this output is to be learnt, add its loss to that of the others: loss = loss + F.cross_entropy(output[0], "
    "target[0]), and look for a loss that is overwritten in place of added. If not, freeze these layers."
)
_ONE_VALUE = (
    "let the softmax run over the axis of what is weighed, such as the positions: softmax(scores, dim=1) of scores of "
    "shape (B, T, 1)."
)
_WELL = 0.5  # of the loss of the baseline is saved all the same
_AT_RANDOM = (
    "load the pretrained weights before these layers are frozen, and look at what load_state_dict returns "
    "(missing_keys, unexpected_keys: strict=False hides names that do not fit); or let them train: "
    "model.requires_grad_(True), and an optimizer over model.parameters()."
)
_REGISTER = (
    "register them: nn.ModuleList or nn.ModuleDict in place of a list or dict of layers, nn.Parameter as an attribute "
    "of a module in place of a tensor; then make the optimizer anew over model.parameters()."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Trainable parameters whose weights are, to the bit, what they were; a layer may be left alone on purpose.

    Those that are not in the model at all cannot be meant. A monitor compares those that its optimizer does not hold.
    It is an issue only if that optimizer holds others, which are not in the model and get no gradient: those of a layer
    that was replaced.
    """
    at_random = _at_random(evidence)
    if at_random is not None:
        return (at_random,)
    if evidence.walls:
        return tuple(map(_wall, evidence.walls))
    outside = _outside(evidence)
    return outside + _inside(evidence) if not outside or evidence.idle or evidence.unheld else outside


def _at_random(evidence: Evidence) -> Finding | None:
    """Frozen layers as they were drawn, of a network that learns little: features of chance under a head."""
    frozen = evidence.frozen_at_random
    layers = {*weighted_layers(evidence), *frozen}
    is_poor = evidence.skill is not None and evidence.skill < _WELL
    if not is_poor or not frozen or 2 * len(frozen) < len(layers) or evidence.own_targets is not None:
        return None
    why = (
        f"layers {listed(frozen)} are frozen, and their weights are as a new layer is drawn: nothing pretrained is in "
        f"them. They are {len(frozen)} of {len(layers)} layers with weights."
    )
    finding = ABOUT.issue(why, float(len(frozen)), 0.0, frozen[0] if len(frozen) == 1 else None)
    return replace(finding, advice=_AT_RANDOM)


def _wall(layer: str) -> Finding:
    """A layer of zeros that stays as it is: nothing comes through it, neither outputs nor gradients."""
    why = (
        "all of its weights are zero, and it does not train: what comes before it does not reach the output, and gets "
        "a gradient of 0."
    )
    advice = (
        f"let this layer train: model.get_submodule({layer!r}).requires_grad_(True); make the optimizer anew over "
        f"model.parameters(), and draw weights that are not zero: {draw(layer)}."
    )
    return replace(ABOUT.issue(why, 1.0, 0.0, layer), advice=advice)


def _outside(evidence: Evidence) -> tuple[Finding, ...]:
    """Weights that the model computes with, and that are not in it."""
    facts = evidence.outside
    found: list[Finding] = []
    if facts is not None and facts.made_anew:
        why = (
            f"each forward pass makes {_tensors(facts.made_anew)} with new random values: what such a layer learns "
            "is lost with it, and the model is another one in every pass."
        )
        found.append(replace(ABOUT.issue(why, float(len(facts.made_anew)), 0.0), advice=_IN_INIT))
    if facts is not None and facts.lasting:
        why = (
            f"the model computes with {_tensors(facts.lasting)} that get gradients and are not among "
            "model.parameters(): no optimizer moves them, and no checkpoint holds them."
        )
        found.append(replace(ABOUT.issue(why, float(len(facts.lasting)), 0.0), advice=_REGISTER))
    if facts is not None and facts.in_loss and not found:
        why = f"the loss computes with {_tensors(facts.in_loss)} with gradients, which the optimizer does not hold."
        found.append(replace(ABOUT.tip(why, float(len(facts.in_loss)), 0.0), advice=_IN_LOSS))
    return tuple(found)


def _tensors(shapes: Sequence[tuple[int, ...]]) -> str:
    several = [str(shape) for shape in shapes]
    return f"{len(several)} weight{'s' if len(several) > 1 else ''} (shape{'s' if len(several) > 1 else ''} " + (
        f"{listed(several)})"
    )


def _inside(evidence: Evidence) -> tuple[Finding, ...]:
    idle = evidence.idle
    one_value = evidence.axes.of_one if evidence.axes is not None else ()
    if idle is not None and not one_value:  # dead units and weights of zero have rules of their own
        idle = tuple((name, why) for name, why in idle if why != NO_SLOPE)
    if idle is None and evidence.unheld is None:
        return (ABOUT.not_judged("the weights before and after training were not compared."),)
    if not idle and not evidence.unheld:
        known = (
            "all trainable parameters that get a gradient have moved."
            if idle is not None
            else "the optimizer holds all trainable parameters."
        )
        return (ABOUT.passed(known),)
    by_reason: dict[str, list[str]] = {}
    for name, why in idle or [(name, UNHELD) for name in evidence.unheld or ()]:
        by_reason.setdefault(why, []).append(name)
    listing = "; ".join(f"{listed(names)}: {why}" for why, names in by_reason.items())
    steps, count = len(evidence.losses), float(len(idle or evidence.unheld or ()))
    why = f"these trainable parameters have not moved{f' in {steps} steps' if steps else ''}: {listing}."
    (layer, *others) = [name for names in by_reason.values() for name in names]
    layer = None if others else layer
    if one_value and NO_SLOPE in by_reason:
        why += f" A softmax runs over an axis of one value (shape {one_value[0]}): it gives 1, whatever it is given."
        return (replace(ABOUT.issue(why, count, 0, layer), advice=_ONE_VALUE),)
    if evidence.cut_off or _is_gap(evidence, by_reason.get(UNHELD, ())):
        found = _named(ABOUT.issue(why, count, 0, layer), by_reason)
        return (replace(found, advice=f"{_CUT_OFF} {found.advice}") if evidence.cut_off else found,)
    if evidence.dropped:
        why += f" The output of {listed(evidence.dropped)} is not used by anything that comes after."
        return (replace(ABOUT.issue(why, count, 0, layer), advice=_DROPPED),)
    if evidence.twins and not evidence.unheard:
        (own, other), *_ = evidence.twins
        why += f" {other!r} beside it is of the same kind and sizes, and trains: it may stand where {own!r} is meant."
        advice = (
            f"look in forward for self.{other.rpartition('.')[2]} in two places, of which one should be "
            f"self.{own.rpartition('.')[2]}: a layer that is not used, gets no gradient and never moves."
        )
        return (replace(ABOUT.issue(why, count, 0, layer), advice=advice),)
    if evidence.unheard:
        why += f" The output of {listed(evidence.unheard)} is one of the model's, and makes no difference to the loss."
        return (replace(ABOUT.tip(why, count, 0, layer), advice=_UNHEARD),)
    if evidence.past:
        why += f" {listed(evidence.past)}: nothing that the optimizer holds stands between these and the loss."
        return (_named(ABOUT.issue(why, count, 0, layer), by_reason),)
    if not evidence.holds_strangers or not evidence.unheld:
        return (_named(ABOUT.tip(why, count, 0, layer), by_reason),)
    why += " The optimizer holds parameters that are not in the model and get no gradient: it is older than the model."
    return (_named(ABOUT.issue(why, count, 0, layer), by_reason),)


def _is_gap(evidence: Evidence, unheld: Sequence[str]) -> bool:
    """Whether less than half of the layers with weights are left out, between layers that train."""
    order = weighted_layers(evidence)
    idle = {name for name, _ in evidence.idle or ()}
    at = [place for place, name in enumerate(order) if name in unheld]
    moving = [place for place, name in enumerate(order) if name not in idle]
    return bool(at) and 2 * len(at) < len(order) and any(min(moving) < one < max(moving) for one in at if moving)


def _named(finding: Finding, by_reason: dict[str, list[str]]) -> Finding:
    """The finding with the names in its advice, so that the call runs as it is written."""
    names = [name for several in by_reason.values() for name in several if name]
    return replace(finding, advice=finding.advice.replace("patterns=...), with their names", f"patterns={names!r})"))
