"""What names and order left open, settled by running the module: the outputs of the source network decide."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.certificate import Certificate, Check, Run
from frostline.porting.plan.port_plan import PortPlan, refuse_ambiguity
from frostline.porting.proof.divergence import FIRST, exact_difference, first_difference
from frostline.porting.proof.outputs import Golden, nearest, nearest_in_float64, outputs_of, tolerance_of
from frostline.porting.proof.search import is_few, num_runs, search, try_all, without_order
from frostline.porting.proof.sensitivity import silent_layers
from frostline.porting.units.unit import full_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.porting.plan.steps import OpenGroup, Step
    from frostline.porting.proof.reference import Reference

_UNSURE = "the pairs that names or order told (`hints` says otherwise), "
NEAR = 1e-2  # differences that roundings may make in a deep network; larger ones are of another network
_TINY = 1e-3


def settle(
    plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], causes: str = ""
) -> tuple[PortPlan, int]:  # fmt: skip
    """The plan with nothing left open.

    Args:
        plan: As names and order left it.
        model: The module; unchanged afterwards.
        goldens: What the source network gives; the module has to give one of them.
        causes: Settings that differ, for the error.

    Returns:
        The plan, and how many assignments were run.

    Raises:
        PortError: If none of them gives the golden outputs.
        AmbiguousPortError: If there are too many of them, or several that compute different things.
    """
    plan = plan if goldens else _assumed(plan)
    if not plan.opened:
        return plan, 1
    if not goldens or any(next(group.ways(), None) is None for group in plan.opened):
        refuse_ambiguity(plan)
    tried, form, most = 0, plan, num_runs(plan, model, goldens)
    while True:
        settled = try_all(form, model, goldens) if is_few(form, most) else search(form, model, goldens, most)
        tried += settled.tried
        if settled.plan is not None:
            return settled.plan, tried
        unordered = without_order(form)
        if unordered is None:
            why = f"none of {tried} assignments gives the outputs"
            raise _differs(plan, settled.golden, settled.error, tolerance_of(model), why, causes)
        form = unordered


def _assumed(plan: PortPlan) -> PortPlan:
    """The plan with the usual way of what only a run could tell, each listed as unknown."""
    usual = [(group, next(iter(group.steps.values()))[0]) for group in plan.opened if group.is_pair]
    taken = [step for _, step in usual if step.assumed]
    told = [step for step in plan.steps if step.assumed]
    return replace(
        plan, steps=(*plan.steps, *taken), assumed=(*plan.assumed, *map(_check_of, [*told, *taken])),
        opened=tuple(one for one in plan.opened if not any(one is group and step.assumed for group, step in usual)),
    )  # fmt: skip


def _check_of(step: Step) -> Check:
    ways = ", ".join(move.text() for move in step.moves if not move.sources or move.combine is not None)
    return Check(step.target.name, step.assumed, "unknown", f"{ways or 'the default'} was assumed; outputs would tell")


def prove(
    plan: PortPlan, model: nn.Module, reference: Reference, alternatives: int, causes: str = ""
) -> tuple[Run, ...]:
    """Run the module as it is now beside the source's outputs.

    Args:
        plan: What was written.
        model: The module.
        reference: What the source network gives.
        alternatives: As `settle` gave it.
        causes: Settings that differ, for the error.

    Raises:
        PortError: If they differ.
    """
    if not reference.goldens:
        return ()
    (error, golden), tolerance = nearest(model, reference.goldens), tolerance_of(model)
    if tolerance < error < NEAR and reference.inputs:
        error, golden = nearest_in_float64(model, reference.goldens)
        golden = replace(golden, kind=f"{golden.kind}, the module in float64 too,")
    if error > tolerance:
        where = first_difference(plan, model, reference, golden)
        raise _differs(plan, golden, error, tolerance, where, causes)
    if reference.inputs and _are_saturated(golden):
        where = exact_difference(plan, model, reference, golden)
        if where.startswith(FIRST):  # outputs that are all 0 or 1 hide it
            raise _differs(plan, golden, error, tolerance, where, causes)
    silent = silent_layers(plan, model, golden, tolerance) if not golden.at else ()
    if not reference.inputs and plan.steps and len(silent) == len(plan.steps):
        raise PortError(
            what="These outputs show nothing of the weights: no change of them would be noticed.",
            where=f"{plan.path}, {golden.kind} of {golden.num_samples} samples",
            received="probabilities that are all 0 or 1" if _are_saturated(golden) else "outputs that hardly depend on "
            "any layer",
            do="pass outputs before their last activation (logits), or other inputs; the module is unchanged.",
        )  # fmt: skip
    extra = max(0, len(outputs_of(model, golden.inputs, golden.at) or ()) - len(golden.outputs))
    return (Run(golden.kind, golden.num_samples, error, tolerance, alternatives, golden.layers, silent, extra),)


def _are_saturated(golden: Golden) -> bool:
    """Whether outputs are probabilities that are all 0 or 1, as nearly as float32 tells."""
    return all(bool(((one.abs() < _TINY) | ((one - 1).abs() < _TINY)).all()) for one in golden.outputs)


def repeated(plan: PortPlan, then: Certificate) -> PortPlan:
    """The plan with each way as it was gone for a certificate; what is open beyond that stays open."""
    layouts = {one.target: one.layout for one in then.mapping}

    def is_as_then(step: Step) -> bool:
        return all(layouts.get(full_name(step.target, move.target)) == move.text() for move in step.moves)

    told: list[Step] = []
    left: list[OpenGroup] = []
    for group in plan.opened:
        found = [way for way in group.ways() if all(map(is_as_then, way))] if group.is_pair else []
        if found:
            told += found[0]
        else:
            left.append(group)
    assumed = (*plan.assumed, *(_check_of(step) for step in told if step.assumed))
    return replace(plan, steps=(*plan.steps, *told), opened=tuple(left), assumed=assumed)


def _differs(plan: PortPlan, golden: Golden, error: float, tolerance: float, what: str, causes: str) -> PortError:
    usual = _UNSURE if any(step.margin < 1 for step in plan.steps) else ""
    usual += "epsilon of norms, padding, activations, the order of a flatten, and the preparation of inputs"
    wanted = ", ".join(str(tuple(one.shape)) for one in golden.outputs)
    apart = f"relative difference {error:.1e}, allowed {tolerance:.0e}" if math.isfinite(error) else (
        f"the module's are of other shapes than {wanted}, or not finite")  # fmt: skip
    return PortError(
        what="The module does not compute what the source network does.",
        where=f"{plan.path}, {golden.kind} of {golden.num_samples} samples", received=f"{what}: {apart}",
        do=f"mend what may be the cause: {causes}; the module is unchanged." if causes else
        f"compare what weights do not show: {usual}; the module is unchanged.",
    )  # fmt: skip
