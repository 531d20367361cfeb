"""P8: real architectures, cut at a stage border and inside a block: exact and minimal."""

from __future__ import annotations

import warnings
from typing import Any

import frostline as fl
from zoo import CASES, check_minimal, frozen_model


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """One line per model and cut."""
    del device
    figures: dict[str, Any] = {}
    for case in CASES[:2] if is_quick else CASES:
        for cut in (case.border, case.inside):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model, name = frozen_model(case, cut)
                split = fl.split(model, case.example(4))
                ran = check_minimal(model, split, case.example(3))
            proof = split.explain().verification
            exact = "exact" if proof.is_exact else f"{proof.largest_difference:.0e}"
            figures[f"{case.name}, through {name}"] = (
                f"{exact}; {len(split.frontier)} tensors; {ran} frozen upstream modules in the head"
            )
    return figures
