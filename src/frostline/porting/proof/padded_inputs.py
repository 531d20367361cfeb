"""A run on inputs that end in padding: whether the module skips the steps that the network of the file skips."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.network import interpret
from frostline.porting.interpreter.random_inputs import masking_layers, padded
from frostline.porting.proof.module_outputs import difference, outputs_of, tolerance_of
from frostline.porting.proof.reference import forms_of
from frostline.porting.settings.setting import AGREES, DIFFERS
from frostline.porting.settings.whole import MASKS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.porting.certificate import Check
    from frostline.porting.proof.module_outputs import Golden
    from frostline.porting.proof.reference import Reference

_REMEDY = "skip these steps in the module (`frostline port FILE --scaffold OUT.py` shows how), or pass no padding"


def with_padding(checks: tuple[Check, ...], beside: Reference, model: nn.Module) -> tuple[Check, ...]:
    """Replace the checks of masks by the result of a run on inputs that end in padding.

    Args:
        checks: The checks of all settings.
        beside: The outputs of the file's network; if it was not run as a whole, the checks are unchanged.
        model: The module with the ported weights.
    """
    if not any(one.setting in MASKS for one in checks) or not beside.inputs or not beside.goldens:
        return checks
    if beside.goldens[0].at:
        return checks
    error = _error(beside, model)
    if error is None:
        return checks
    is_same = error <= tolerance_of(model)
    text = (
        f"inputs that end in padding give the same outputs ({error:.1e}); other places of padding were not run"
        if is_same
        else f"the module computes with padded steps, which the file's network skips: outputs for inputs that end in "
        f"padding differ ({error:.1e}); {_REMEDY}"
    )
    status = AGREES if is_same else DIFFERS
    return tuple(replace(one, status=status, text=text) if one.setting in MASKS else one for one in checks)


def _error(beside: Reference, model: nn.Module) -> float | None:
    """The smallest difference to the outputs of the file's network; None if they cannot be computed."""
    if not masking_layers(beside.source):
        return None
    inputs = padded(beside.source, beside.inputs)
    try:
        found = interpret(beside.source, inputs)
    except NotInterpretedError:
        return None
    errors = [_apart(model, golden) for golden in forms_of(beside.source, model, inputs, found)]
    return min((one for one in errors if one is not None), default=None)


def _apart(model: nn.Module, golden: Golden) -> float | None:
    """The difference at outputs that are defined, which those of attentions at padded steps are not."""
    known = [torch.isfinite(one) for one in golden.outputs]
    given = outputs_of(model, golden.inputs)
    if given is None or not all(bool(one.any()) for one in known):
        return None
    return difference(_kept(given, known), _kept(golden.outputs, known))


def _kept(values: tuple[Tensor, ...] | list[Tensor], known: list[Tensor]) -> list[Tensor]:
    return [one.where(where.to(one.device), 0) for one, where in zip(values, known, strict=False)]
