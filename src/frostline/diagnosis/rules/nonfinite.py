"""FL502: where NaN or infinity comes from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.diagnosis.rules.advice import LEAVE_OUT
from frostline.diagnosis.rules.contract import About

if TYPE_CHECKING:
    from frostline.core.records import Finding
    from frostline.diagnosis.rules.records import Evidence

ABOUT = About(
    "FL502", "not a number", "nonfinite",
    "remove the samples, or fix the function that makes it (log of 0, such as of a softmax: take log_softmax; division "
    "by 0, such as by a count of nothing; exp of a large value: clamp it; overflow in float16); "
    f"{LEAVE_OUT}.",
    10,
)  # fmt: skip
_IN_BACKWARD = (
    "look for sqrt, norm or a power below 1 of zero, a division by what can be zero, or too large a step: their slope "
    f"is infinite where the value is not. Add a small number inside (torch.sqrt(x + 1e-8)), and take log_softmax or "
    f"logsigmoid in place of the log of a softmax or sigmoid; {LEAVE_OUT}."
)

_BELOW_ZERO = (
    "this loss takes outputs above 0 alone (a rate, a variance, a duration): end the model in nn.Softplus() or exp, or "
    "take the form of the loss that gets logarithms (poisson_nll_loss with log_input=True)."
)
_AT_BOUNDS = (
    "leave the sigmoid or softmax out and take the form of the loss that gets logits "
    "(binary_cross_entropy_with_logits, cross_entropy), or add a small number inside each logarithm "
    "(torch.log(p + 1e-8))."
)
IN_THE_LOSS = "the loss"  # the layer that such a finding names
_IN_VALIDATION = (
    "such an epoch is never chosen as the best. Look for what makes it: a log of 0 or a division by 0 in the loss or "
    "metric, outputs in evaluation mode (running statistics of BatchNorm), float16."
)


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """The first sampled step at which something was not finite, and the first place in it."""
    if evidence.loss is not None and evidence.loss.domain.needs_positive and _has_lost_all(evidence):
        why = "the loss is not finite where an output is below 0, and finite where all are above it."
        return (replace(ABOUT.issue(why, 1.0, 0.0, IN_THE_LOSS), advice=_BELOW_ZERO),)
    if evidence.loss is not None and evidence.loss.domain.breaks_at_bounds and _has_lost_all(evidence):
        why = (
            "the loss takes a logarithm of 0, or divides by it, where an output is exactly 0 or 1, which a sigmoid or "
            "softmax gives as soon as it is sure."
        )
        return (replace(ABOUT.issue(why, 1.0, 0.0, IN_THE_LOSS), advice=_AT_BOUNDS),)
    for record in evidence.records:
        if record.nonfinite is None:
            continue
        rows = ", ".join(map(str, record.nonfinite_samples))
        where = f" (samples {rows} of the batch)" if rows else ""
        if record.nonfinite in {"input", "target"}:
            why = f"the {record.nonfinite} of step {record.step} is not finite{where}."
            return (ABOUT.issue(why, 1.0, 0.0, record.nonfinite),)
        if record.nonfinite == "gradient":
            why = f"at step {record.step} inputs, outputs and loss are finite, but a gradient is not{where}."
            return (replace(ABOUT.issue(why, 1.0, 0.0), advice=_IN_BACKWARD),)
        why = f"at step {record.step}, the first value that is not finite is in layer {record.nonfinite!r}{where}."
        return (ABOUT.issue(why, 1.0, 0.0, record.nonfinite),)
    odd = [step for step, loss in evidence.losses if loss - loss != 0]
    if odd:
        return (ABOUT.issue(f"the loss of step {odd[0]} is not finite.", 1.0, 0.0),)
    if evidence.validation:
        epoch, name, value = evidence.validation[0]
        count = len({at for at, _, _ in evidence.validation})
        more = f", and {count - 1} more epochs have such figures" if count > 1 else ""
        why = f"the validation figure {name} of epoch {epoch} is {value}{more}."
        return (replace(ABOUT.issue(why, float(count), 0.0), advice=_IN_VALIDATION),)
    if evidence.loss is not None and not evidence.loss.is_finite:
        return (ABOUT.issue("the loss is not finite for a confident output.", 1.0, 0.0, IN_THE_LOSS),)
    return (ABOUT.passed(f"all values were finite in {len(evidence.records)} sampled steps."),)


def _has_lost_all(evidence: Evidence) -> bool:
    """Whether a loss was not finite, though all inputs and targets were."""
    is_odd = any(loss - loss != 0 for _, loss in evidence.losses)
    return is_odd and not any(record.nonfinite in {"input", "target"} for record in evidence.records)
