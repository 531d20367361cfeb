"""Padded inputs: whether the module leaves out the steps that the network of the file leaves out."""

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

_REMEDY = "leave these steps out in the module (`frostline port FILE --scaffold` writes how), or give it none"


def with_padding(checks: tuple[Check, ...], beside: Reference, model: nn.Module) -> tuple[Check, ...]:
    """The checks, those of masks settled by a run of inputs that end in padding.

    Args:
        checks: Of all settings.
        beside: What the module was compared with: nothing is settled where the file's network was not run as a whole.
        model: The module, filled.
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
        else f"the module computes with padded steps, which the file's network leaves out: outputs of inputs that end "
        f"in padding differ ({error:.1e}); {_REMEDY}"
    )
    status = AGREES if is_same else DIFFERS
    return tuple(replace(one, status=status, text=text) if one.setting in MASKS else one for one in checks)


def _error(beside: Reference, model: nn.Module) -> float | None:
    """The difference to the nearest form of outputs; None if padding leaves nothing that can be compared."""
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
    """The difference where the outputs are known: they are not at padded steps of attentions."""
    known = [torch.isfinite(one) for one in golden.outputs]
    given = outputs_of(model, golden.inputs)
    if given is None or not all(bool(one.any()) for one in known):
        return None
    return difference(_kept(given, known), _kept(golden.outputs, known))


def _kept(values: tuple[Tensor, ...] | list[Tensor], known: list[Tensor]) -> list[Tensor]:
    return [one.where(where.to(one.device), 0) for one, where in zip(values, known, strict=False)]
