"""The sicknesses of the exam, one file per family."""

from . import (
    accumulation,
    batchnorm,
    dead_units,
    exploding,
    gradient_spikes,
    initialization,
    input_scale,
    learning_rate,
    loss_mismatch,
    nonfinite,
    oscillation,
    saturation,
    symmetry,
    vanishing,
)
from .contract import Sickness

SICKNESSES: tuple[Sickness, ...] = (
    *vanishing.SICKNESSES,
    *exploding.SICKNESSES,
    *dead_units.SICKNESSES,
    *saturation.SICKNESSES,
    *symmetry.SICKNESSES,
    *initialization.SICKNESSES,
    *learning_rate.SICKNESSES,
    *oscillation.SICKNESSES,
    *input_scale.SICKNESSES,
    *nonfinite.SICKNESSES,
    *gradient_spikes.SICKNESSES,
    *batchnorm.SICKNESSES,
    *loss_mismatch.SICKNESSES,
    *accumulation.SICKNESSES,
)

__all__ = ["SICKNESSES", "Sickness"]
