"""SageMaker Debugger's built-in rules at their documented defaults, as read from the AWS developer guide.

The rule bodies are not public. A look is taken every epoch: at its own default of every 500 steps it would see
nothing of a training of 300. `LossNotDecreasing` asks for a lower loss every ten steps, and is a judge of its own
here because it fires on nearly every converged training.
"""

from __future__ import annotations

import itertools

from ..cases import Case
from ..verdict import Verdict
from .watch import Trace, watch_case

VANISHING_GRADIENT = 1e-7
DEAD_LAYER = 0.5
SATURATED_LAYER = 0.5
VARIANCE_RATIO = 10.0
GRADIENT_SPREAD = 0.001
UPDATE_RATIO = (1e-8, 10.0)
UNCHANGED_LOOKS = 3
LOSS_STEPS, LOSS_DROP = 10, 0.001


def rules(trace: Trace) -> list[tuple[str, str]]:
    """Names of the rules that fire, each with the family it stands for, the gravest first."""
    looks = trace.looks
    found: list[tuple[str, str]] = []
    if any(not look.is_finite for look in looks) or any(loss - loss != 0 for loss in trace.losses):
        found.append(("ExplodingTensor", "exploding"))
    if any(0 <= mean < VANISHING_GRADIENT for look in looks for mean in look.mean_gradients):
        found.append(("VanishingGradient", "vanishing"))
    if any(share > DEAD_LAYER for look in looks for share in look.dead):
        found.append(("DeadRelu", "dead_units"))
    if any(share > SATURATED_LAYER for look in looks for share in look.saturated):
        found.append(("SaturatedActivation", "saturation"))
    if looks[0].variance_ratio > VARIANCE_RATIO and looks[0].gradient_spread < GRADIENT_SPREAD:
        found.append(("PoorWeightInitialization", "initialization"))
    if any(not UPDATE_RATIO[0] <= ratio <= UPDATE_RATIO[1] for look in looks for ratio in look.update_ratios):
        found.append(("WeightUpdateRatio", "learning_rate"))
    if sum(look.unchanged > 0 for look in looks) >= UNCHANGED_LOOKS:
        found.append(("UnchangedTensor", "learning_rate"))
    return found


def is_loss_stuck(losses: list[float]) -> bool:
    """True if the mean loss of some ten steps is not 0.1% below that of the ten before."""
    means = [sum(losses[i : i + LOSS_STEPS]) / LOSS_STEPS for i in range(0, len(losses), LOSS_STEPS)]
    return any(later > (1 - LOSS_DROP) * earlier for earlier, later in itertools.pairwise(means))


class SageMaker:
    """Seven of its rules as a judge."""

    name = "sagemaker"
    heal = None

    def checkup(self, case: Case) -> Verdict:
        """Alarm if a rule fires."""
        found = rules(watch_case(case))
        return Verdict(bool(found), tuple(dict.fromkeys(family for _, family in found)), str([n for n, _ in found]))


class SageMakerWithLoss(SageMaker):
    """The same with LossNotDecreasing."""

    name = "sagemaker+loss"

    def checkup(self, case: Case) -> Verdict:
        """Alarm if a rule fires, or the loss does not fall."""
        verdict = super().checkup(case)
        if is_loss_stuck(watch_case(case).losses):
            return Verdict(True, tuple(dict.fromkeys((*verdict.families, "learning_rate"))), verdict.why)
        return verdict
