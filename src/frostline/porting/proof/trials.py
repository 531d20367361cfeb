"""The decision of open groups by the outputs of the source network, and the proof of the finished port."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.certificate import Certificate, Check, Run
from frostline.porting.plan.ambiguity import refuse_ambiguity
from frostline.porting.proof.divergence import FIRST, exact_difference, first_difference
from frostline.porting.proof.module_outputs import Golden, nearest, nearest_in_float64, outputs_of, tolerance_of
from frostline.porting.proof.search import is_few, num_runs, search, try_all, without_order
from frostline.porting.proof.sensitivity import silent_layers
from frostline.porting.units.unit import full_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.step import OpenGroup, Step
    from frostline.porting.proof.reference import Reference

_UNSURE = "the pairs that names or order decided (`hints` assigns them otherwise), "
NEAR = 1e-2  # rounding in a deep network may cause smaller differences; larger ones have another cause
_TINY = 1e-3  # largest difference of a saturated probability from 0 or 1
_OF_HALF = 3e-2  # difference that bfloat16 (8 bits, 4e-3 for each value) makes in the outputs of a small network


def settle(
    plan: PortPlan, model: nn.Module, goldens: Sequence[Golden], causes: str = ""
) -> tuple[PortPlan, int]:  # fmt: skip
    """Close the open groups of a plan.

    Args:
        plan: The plan with names and order as evidence.
        model: The module; it is unchanged afterwards.
        goldens: The outputs of the source network in several forms; the module has to reproduce one of them.
        causes: Settings that differ, for the error text.

    Returns:
        The plan without open groups, and the number of assignments that were run.

    Raises:
        PortError: If no assignment reproduces the golden outputs.
        AmbiguousPortError: If there are no golden outputs, too many assignments, or several that are right.
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
            why = f"none of {tried} assignments reproduces the outputs"
            raise _differs(plan, settled.golden, settled.error, tolerance_of(model), why, causes)
        form = unordered


def _assumed(plan: PortPlan) -> PortPlan:
    """The plan with the defaults of settings that only a run could confirm, each listed as unknown."""
    usual = [(group, next(iter(group.steps.values()))[0]) for group in plan.opened if group.is_pair]
    taken = [step for _, step in usual if step.assumed]
    decided = [step for step in plan.steps if step.assumed]
    return replace(
        plan, steps=(*plan.steps, *taken), assumed=(*plan.assumed, *map(_check_of, [*decided, *taken])),
        opened=tuple(one for one in plan.opened if not any(one is group and step.assumed for group, step in usual)),
    )  # fmt: skip


def _check_of(step: Step) -> Check:
    ways = ", ".join(move.text() for move in step.moves if not move.sources or move.combine is not None)
    text = f"{ways or 'the default'} was assumed; golden outputs would confirm it"
    return Check(step.target.name, step.assumed, "unknown", text)


def prove(
    plan: PortPlan, model: nn.Module, reference: Reference, alternatives: int, causes: str = ""
) -> tuple[Run, ...]:
    """Compare the outputs of the module with those of the source network.

    Args:
        plan: The plan that was carried out.
        model: The module with the ported weights.
        reference: The outputs of the source network.
        alternatives: The number of assignments that were run, as `settle` returned it.
        causes: Settings that differ, for the error text.

    Raises:
        PortError: If the outputs differ, or do not depend on the weights.
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
        if where.startswith(FIRST):  # saturated outputs hide the difference
            raise _differs(plan, golden, error, tolerance, where, causes)
    silent = silent_layers(plan, model, golden, tolerance) if not golden.at else ()
    if not reference.inputs and plan.steps and len(silent) == len(plan.steps):
        raise PortError(
            what="These outputs do not depend on the weights: no error in them would be noticed.",
            where=f"{plan.path}, {golden.kind} of {golden.num_samples} samples",
            received="probabilities that are all 0 or 1" if _are_saturated(golden) else "outputs that hardly depend on "
            "any layer",
            do="pass outputs before their last activation (logits), or other inputs; the module is unchanged.",
        )  # fmt: skip
    extra = max(0, len(outputs_of(model, golden.inputs, golden.at) or ()) - len(golden.outputs))
    return (Run(golden.kind, golden.num_samples, error, tolerance, alternatives, golden.layers, silent, extra),)


def _are_saturated(golden: Golden) -> bool:
    """Whether all outputs are probabilities close to 0 or 1."""
    return all(bool(((one.abs() < _TINY) | ((one - 1).abs() < _TINY)).all()) for one in golden.outputs)


def repeated(plan: PortPlan, then: Certificate) -> PortPlan:
    """The plan with the layouts of an earlier certificate; groups that it does not decide stay open."""
    layouts = {one.target: one.layout for one in then.mapping}

    def is_as_then(step: Step) -> bool:
        return all(layouts.get(full_name(step.target, move.target)) == move.text() for move in step.moves)

    resolved: list[Step] = []
    left: list[OpenGroup] = []
    for group in plan.opened:
        found = [way for way in group.ways() if all(map(is_as_then, way))] if group.is_pair else []
        if found:
            resolved += found[0]
        else:
            left.append(group)
    assumed = (*plan.assumed, *(_check_of(step) for step in resolved if step.assumed))
    return replace(plan, steps=(*plan.steps, *resolved), opened=tuple(left), assumed=assumed)


def _differs(plan: PortPlan, golden: Golden, error: float, tolerance: float, what: str, causes: str) -> PortError:
    usual = _UNSURE if any(step.margin < 1 for step in plan.steps) else ""
    usual += "epsilon of norms, padding, activations, the order of a flatten, and the preparation of inputs"
    if error < _OF_HALF:
        usual += "; or compute the outputs of the source network in float32, if they were computed in half precision"
    wanted = ", ".join(str(tuple(one.shape)) for one in golden.outputs)
    apart = f"relative difference {error:.1e}, allowed {tolerance:.0e}" if math.isfinite(error) else (
        f"those of the module have other shapes than {wanted}, or are not finite")  # fmt: skip
    return PortError(
        what="The module does not compute what the source network does.",
        where=f"{plan.path}, {golden.kind} of {golden.num_samples} samples", received=f"{what}: {apart}",
        do=f"correct the likely cause: {causes}; the module is unchanged." if causes else
        f"compare what a file of weights does not state: {usual}; the module is unchanged.",
    )  # fmt: skip
