"""FL513: places of a sequence, or their order, that the output does not depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.contract import About
from frostline.diagnosis.rules.limits import LEARNS, STEPS_TO_LEARN

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL513", "inputs that do not reach the output", "wiring",
    "look for what keeps these places out: a padding mask the other way round (src_key_padding_mask is True where "
    "padding stands, words == 0), one place that is taken of a layer that has not seen the others (hidden[:, 0] of a "
    "recurrence that runs forward), a slice.",
    8,
)  # fmt: skip
_ORDER = (
    "give each place its own position: x + self.position[:, : x.shape[1]], and not one row of the table for all; or "
    "read the places with a recurrence or a convolution before the mean over them."
)
_VALUES = (
    "look in forward for what leaves these values out: a slice (x[:, :4]), an index (hidden[:, 0] of a recurrence that "
    "runs forward), one input that is passed in two places and another in none, a mask that is not passed on to the "
    "layer that needs it (src_key_padding_mask=, attn_mask=)."
)
_DROWNED = (
    "bring what is added before this layer to the size of what it is added to: positions or an encoding of places that "
    "are multiplied where they should be divided (position / 10000 ** (2 * i / width)), a table that is initialised "
    "too large, an offset that is not subtracted; or scale the embedding up (times width ** 0.5)."
)
_OTHER_ORDER = (
    "look for the order in which outputs are put together: torch.cat([outputs, new], 1) and not [new, outputs], append "
    "and not insert(0, ...), a flip that is done once and not undone, an index that is off by some places."
)
_CARRIED = (
    "carry the state on from place to place: hidden = self.cell(word, hidden), under one name, and made once before "
    "the loop and not in it; of attention, look at a mask that leaves each place to itself, or a softmax over one "
    "value."
)
_LEAST = 0.5  # of the places
_UNUSED, _WELL = 0.25, 0.5  # of the values that differ; of the loss of the baseline is saved all the same
_BLIND = 0.2, 0.9  # of the places; a model of what comes next may leave out all of them, or the first
_BETTER = 2.0  # times what the network learns, that a linear model reads of the inputs


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """How many places change the output; in a network that learns, the others may not be needed, nor their order."""
    found = (
        _drowned(evidence) or _in_another_order(evidence) or _alone(evidence) or _unused(evidence) or _lost(evidence)
    )
    if found is not None:
        return (found,)
    facts = evidence.reach
    if facts is None or not facts.places:
        return (
            ABOUT.not_applicable("the input is not a sequence of places, or the output not one row for each sample."),
        )
    if evidence.skill is None or len(evidence.losses) < STEPS_TO_LEARN:
        return (ABOUT.not_judged("it is not known whether anything is learnt."),)
    share = facts.reached / facts.places
    if evidence.skill > LEARNS:
        return (ABOUT.passed("something is learnt from the inputs.", share, _LEAST),)
    if share < _LEAST:
        why = (
            f"nothing is learnt, and of {facts.places} places of the input that differ between samples {facts.reached} "
            "change the output: what stands at the others has no effect."
        )
        return (ABOUT.issue(why, share, _LEAST),)
    if facts.sees_order is False:
        why = "nothing is learnt, and the output stays the same if the places of every input are reversed."
        return (replace(ABOUT.issue(why, 0.0, 0.0), advice=_ORDER),)
    return (ABOUT.passed(f"{facts.reached} of {facts.places} places change the output.", share, _LEAST),)


def _is_poor(evidence: Evidence) -> bool:
    """Whether it has had time, and does not save half of the loss of the constant-prediction baseline."""
    return evidence.skill is not None and evidence.skill < _WELL and len(evidence.losses) >= STEPS_TO_LEARN


def _drowned(evidence: Evidence) -> Finding | None:
    """A layer whose inputs are large, and nearly the same for all samples."""
    if evidence.drowned is None:
        return None
    name, share, size = evidence.drowned
    why = (
        f"before the first step, what enters layer {name!r} has a root mean square of {size:.3g}, of whose square "
        f"{share:.1g} differs between samples: a large part that is the same for all drowns them."
    )
    return replace((ABOUT.issue if _is_poor(evidence) else ABOUT.tip)(why, share, None, name), advice=_DROWNED)


def _in_another_order(evidence: Evidence) -> Finding | None:
    """Outputs of places that do not see the input of their own place, though others do."""
    blind, total = evidence.places.blind if evidence.places is not None else (0, 1)
    if not _is_poor(evidence) or not _BLIND[0] * total < blind < _BLIND[1] * total:
        return None
    why = (
        f"the outputs of {blind} of {total} places do not change with the input of that very place, and those of the "
        "others do: outputs are in another order than inputs and targets."
    )
    return replace(ABOUT.issue(why, blind / total, 0.0), advice=_OTHER_ORDER, family="order")


def _alone(evidence: Evidence) -> Finding | None:
    """Places that see their own input alone, of a network with layers that carry it from one to the next."""
    alone, total = evidence.places.alone if evidence.places is not None else (0, 1)
    carry = [layer for layer in evidence.layers if layer.kind in {"recurrent", "attention"}]
    if not _is_poor(evidence) or not carry or alone < total:
        return None
    why = (
        f"the input of a place changes the output of that place alone, at all {total} that were asked, though layer "
        f"{carry[0].name!r} ({carry[0].type}) is to carry it to others."
    )
    return replace(ABOUT.issue(why, 0.0, None, carry[0].name), advice=_CARRIED)


def _unused(evidence: Evidence) -> Finding | None:
    """Values of the inputs that no output depends on."""
    facts = evidence.reach
    is_mixed = evidence.mixes or (evidence.axes is not None and evidence.axes.over_samples)
    if facts is None or not facts.unused or is_mixed or evidence.skill is None:
        return None
    what, count, total = max(facts.unused, key=lambda one: one[1] / one[2])
    if len(evidence.losses) < STEPS_TO_LEARN or count / total < _UNUSED:
        return None
    why = f"{what} differ between samples and change no output: {count} of {total} that differ are not used."
    return replace((ABOUT.issue if _is_poor(evidence) else ABOUT.tip)(why, count / total, _UNUSED), advice=_VALUES)


def _lost(evidence: Evidence) -> Finding | None:
    """Where the targets are lost, in a network that learns less than a linear model reads of the inputs."""
    facts = evidence.signal
    is_known = evidence.skill is not None and len(evidence.losses) >= STEPS_TO_LEARN
    if facts is None or not facts.lost_at or not is_known or evidence.skill is None:
        return None
    if evidence.skill * _BETTER > facts.of_inputs:
        return None
    why = (
        f"a linear model of {facts.kept_at} reads {facts.kept:.0%} of the targets, one of {facts.lost_at} "
        f"{facts.lost:.0%}, before the first step: what stands between them throws the targets away. The network "
        f"learns {max(0.0, evidence.skill):.0%}."
    )
    advice = (
        f"print the values on both sides, {facts.kept_at} and {facts.lost_at}, for samples of two classes, and look "
        "for a mean where a sum is meant, a norm or softmax over another axis (dim=-1), a mask the other way round."
    )
    name = facts.lost_at.partition("'")[2].partition("'")[0]
    return replace(ABOUT.issue(why, facts.lost, facts.of_inputs, name or None), advice=advice)
