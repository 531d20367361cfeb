"""Pairs that names told and golden outputs contradict: opened again, and settled by these outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import AmbiguousPortError, PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.proof.module_outputs import Golden, nearest, tolerance_of
from frostline.porting.proof.sensitivity import silent_layers
from frostline.porting.proof.trials import NEAR, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.step import Step
    from frostline.porting.proof.reference import Reference


def settle_or_reopen(
    plan: PortPlan, without_names: Callable[[], PortPlan], model: nn.Module, reference: Reference, causes: str = ""
) -> tuple[PortPlan, int]:
    """The plan with nothing left open; where outputs that the user gave contradict what names told, without names.

    What types, shapes, the flow of values or hints told stays. If no other assignment gives the outputs either, the
    plan is the one that names told, so that what is wrong with it is told as of any port.

    Args:
        plan: As names and order left it.
        without_names: Gives the plan that leaves open what only names or the order of the file told.
        model: The module; unchanged afterwards.
        reference: What the source network gives.
        causes: Settings that differ, which explain other outputs as well.

    Returns:
        As `settle`.

    Raises:
        PortError: As `settle`.
    """
    goldens = reference.goldens
    if not any(golden.kind == Golden.kind and golden.outputs for golden in goldens):
        return settle(plan, model, goldens, causes)
    refusal: PortError | None = None
    by_names, tried = plan, 0
    try:
        by_names, tried = settle(plan, model, goldens, causes)
        if plan.opened or _agrees(by_names, model, reference):
            return by_names, tried
    except AmbiguousPortError:  # other outputs are needed, not other assignments
        raise
    except PortError as error:
        refusal = error
    other = plan if causes or plan.unused or plan.kept else without_names()
    if len(other.steps) < len(plan.steps):
        try:
            settled, more = settle(other, model, goldens, causes)
            if _is_shown(by_names, settled, model, goldens):
                return replace(settled, notes=(*settled.notes, _note(by_names, settled))), tried + more
        except PortError:  # the outputs are of another network, or too many assignments are left
            pass
    if refusal is not None:
        raise refusal
    return by_names, tried


def _agrees(plan: PortPlan, model: nn.Module, reference: Reference) -> bool:
    """Whether outputs are at most a rounding or an epsilon from those that are wanted, which no exchange mends."""
    undo = carry_out(plan, model)
    try:
        return nearest(model, reference.goldens)[0] <= max(NEAR, tolerance_of(model))
    finally:
        undo()


def _is_shown(by_names: PortPlan, settled: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> bool:
    """Whether the outputs depend on every layer that other weights go into than names told."""
    undo = carry_out(settled, model)
    try:
        silent = silent_layers(settled, model, nearest(model, goldens)[1], tolerance_of(model))
    finally:
        undo()
    return not {step.target.name for step in _moved(by_names, settled)} & set(silent)


def _moved(by_names: PortPlan, settled: PortPlan) -> list[Step]:
    """The steps into other layers than names told."""
    before = {step.source.name: step.target.name for step in by_names.steps}
    return [step for step in settled.steps if before.get(step.source.name, step.target.name) != step.target.name]


def _note(by_names: PortPlan, settled: PortPlan) -> str:
    moved = _moved(by_names, settled)
    shown = ", ".join(f"{step.source.name!r} is {step.target.name!r}" for step in moved[:3])
    more = f", and {len(moved) - 3} more" if len(moved) > 3 else ""
    what = f": {shown}{more}" if moved else ", which say how query, key and value lie in one matrix"
    return f"Names were misleading{what}; golden outputs told otherwise"
