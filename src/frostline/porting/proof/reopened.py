"""Pairs that names decided and golden outputs contradict: they are assigned again by these outputs."""

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
    """Close the open groups of a plan; if golden outputs of the user contradict the names, without names.

    Pairs that types, shapes, the flow of values or hints decided are kept. If no other assignment reproduces the
    outputs either, the result is the plan with names, so that its error is the same as that of any port.

    Args:
        plan: The plan with names and order as evidence.
        without_names: Makes the plan in which pairs are open that only names or the order of the file decided.
        model: The module; it is unchanged afterwards.
        reference: The outputs of the source network.
        causes: Settings that differ and could explain other outputs.

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
    except AmbiguousPortError:  # the user has to pass other outputs: other assignments do not help
        raise
    except PortError as error:
        refusal = error
    other = plan if causes or plan.unused or plan.kept else without_names()
    if len(other.steps) < len(plan.steps):
        try:
            settled, more = settle(other, model, goldens, causes)
            if _is_shown(by_names, settled, model, goldens):
                return replace(settled, notes=(*settled.notes, _note(by_names, settled))), tried + more
        except PortError:  # the outputs belong to another network, or there are too many assignments
            pass
    if refusal is not None:
        raise refusal
    return by_names, tried


def _agrees(plan: PortPlan, model: nn.Module, reference: Reference) -> bool:
    """Whether rounding or an epsilon may explain the difference of the outputs; an exchange of layers causes more."""
    undo = carry_out(plan, model)
    try:
        return nearest(model, reference.goldens)[0] <= max(NEAR, tolerance_of(model))
    finally:
        undo()


# Nothing is decided below a difference of 0.01, which another epsilon alone can make, and nothing for layers that the
# golden outputs do not reach.
def _is_shown(by_names: PortPlan, settled: PortPlan, model: nn.Module, goldens: Sequence[Golden]) -> bool:
    """Whether the outputs depend on every layer that is assigned otherwise than by names."""
    undo = carry_out(settled, model)
    try:
        silent = silent_layers(settled, model, nearest(model, goldens)[1], tolerance_of(model))
    finally:
        undo()
    return not {step.target.name for step in _moved(by_names, settled)} & set(silent)


def _moved(by_names: PortPlan, settled: PortPlan) -> list[Step]:
    """The steps whose layer is another one than by names."""
    before = {step.source.name: step.target.name for step in by_names.steps}
    return [step for step in settled.steps if before.get(step.source.name, step.target.name) != step.target.name]


def _note(by_names: PortPlan, settled: PortPlan) -> str:
    moved = _moved(by_names, settled)
    shown = ", ".join(f"{step.source.name!r} is {step.target.name!r}" for step in moved[:3])
    more = f", and {len(moved) - 3} more" if len(moved) > 3 else ""
    what = f": {shown}{more}" if moved else " about the order of query, key and value in one matrix"
    return f"Names were misleading{what}; golden outputs decided"
