"""Single factors that may be what is wrong, each undone alone: whichever restores the twin's score is a cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .losses import FAULTY
from .oracles import Evidence
from .recipe import Recipe


def always(evidence: Evidence) -> bool:
    """For factors that a training always has."""
    return True


@dataclass(frozen=True)
class Undo:
    """One factor set to what is usual.

    Attributes:
        family: The family that is a right answer where this undo works.
        name: What is done.
        change: The recipe with the factor undone; the recipe itself where there is nothing to undo.
        fits: False where the sick training does not show the family's symptom, so that naming it would be wrong.
    """

    family: str
    name: str
    change: Callable[[Recipe], Recipe]
    fits: Callable[[Evidence], bool] = always


def _lr(factor: float) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, lr=recipe.lr * factor)


def _fitting_weights(recipe: Recipe) -> Recipe:
    return replace(recipe, init="fitting", gain=1.0, head_gain=1.0, first_gain=1.0, bias=0.0, clones=0)


def _scaled_inputs(recipe: Recipe) -> Recipe:
    return replace(recipe, input_scale=1.0, input_shift=0.0, uneven=1.0, outliers=0.0)


def _relu(recipe: Recipe) -> Recipe:
    return replace(recipe, activation="relu") if recipe.activation in ("sigmoid", "tanh") else recipe


def _leaky(recipe: Recipe) -> Recipe:
    return replace(recipe, activation="leaky_relu") if recipe.activation == "relu" else recipe


def _batchnorm(recipe: Recipe) -> Recipe:
    return replace(recipe, norm="batch") if recipe.norm == "none" and recipe.network in ("mlp", "conv") else recipe


def _usual_batchnorm(recipe: Recipe) -> Recipe:
    return replace(recipe, bn_momentum=0.1)


def _clipped(recipe: Recipe) -> Recipe:
    return replace(recipe, clip=1.0) if recipe.clip == 0 else recipe


def _right_loss(recipe: Recipe) -> Recipe:
    return replace(recipe, loss="cross_entropy") if recipe.loss in FAULTY else recipe


def _less_momentum(recipe: Recipe) -> Recipe:
    return replace(recipe, momentum=min(recipe.momentum, 0.9))


def _is_vanishing(evidence: Evidence) -> bool:
    return evidence.gradient_ratio_0 < 1e-4


UNDOS: tuple[Undo, ...] = (
    Undo("learning_rate", "learning rate / 10", _lr(0.1)),
    Undo("learning_rate", "learning rate / 100", _lr(0.01)),
    Undo("learning_rate", "learning rate x 10", _lr(10.0)),
    Undo("learning_rate", "learning rate x 100", _lr(100.0)),
    Undo("initialization", "fitting weights", _fitting_weights),
    Undo("input_scale", "inputs to scale", _scaled_inputs),
    Undo("vanishing", "ReLU", _relu, _is_vanishing),
    Undo("vanishing", "BatchNorm", _batchnorm, _is_vanishing),
    Undo("saturation", "ReLU", _relu, lambda e: max(e.saturated_0, e.saturated) > 0.5),
    Undo("dead_units", "LeakyReLU", _leaky, lambda e: max(e.dead_0, e.dead) > 0.5),
    Undo("exploding", "clip", _clipped, lambda e: e.gradient_norm_0 > 30 or not e.is_finite),
    Undo("gradient_spikes", "clip", _clipped, lambda e: e.spikes > 10),
    Undo("exploding", "BatchNorm", _batchnorm, lambda e: e.gradient_norm_0 > 30 or not e.is_finite),
    Undo("batchnorm", "usual running statistics", _usual_batchnorm),
    Undo("oscillation", "less momentum", _less_momentum, lambda e: e.reversals >= 0.3),
    Undo("loss_mismatch", "cross-entropy", _right_loss),
)
# A control is healthy if neither of these helps it: nothing else is wrong with it by construction.
CONTROL_UNDOS: tuple[Undo, ...] = (UNDOS[0], UNDOS[2])
