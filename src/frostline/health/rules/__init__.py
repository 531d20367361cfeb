"""The rules, one per file; adding one is a line here. See CONTRIBUTING."""

from frostline.health.rules import (
    accumulation,
    batchnorm_batch,
    batchnorm_frozen,
    batchnorm_gap,
    dead_units,
    exploding,
    initialization,
    input_scale,
    learning_rate_high,
    learning_rate_low,
    loss_mismatch,
    nonfinite,
    oscillation,
    saturation,
    spikes,
    symmetry,
    target_scale,
    vanishing,
)
from frostline.health.rules.contract import Rule

RULES: tuple[Rule, ...] = (
    nonfinite,
    loss_mismatch,
    symmetry,
    accumulation,
    exploding,
    vanishing,
    input_scale,
    target_scale,
    batchnorm_gap,
    batchnorm_batch,
    batchnorm_frozen,
    dead_units,
    saturation,
    spikes,
    initialization,
    learning_rate_high,
    learning_rate_low,
    oscillation,
)
