"""What names and order left open, settled by running the module: the outputs of the source network decide."""

from __future__ import annotations

import itertools
import math
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.certificate import Certificate, Run
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.plan import PortPlan, Step, refuse_ambiguity
from frostline.porting.proof.divergence import first_difference
from frostline.porting.proof.outputs import (
    Golden,
    difference,
    further,
    nearest,
    nearest_in_float64,
    outputs_of,
    tolerance_of,
)
from frostline.porting.units.units import full_name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor, nn

    from frostline.porting.proof.reference import Reference

MOST_TRIALS = 1_000  # assignments that are run
_NEAR = 1e-2  # differences that roundings may make in a deep network; larger ones are of another network
_TINY = 1e-3
_FURTHER = 2  # other inputs on which assignments must agree that all give the golden outputs


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
    if not plan.opened and not plan.choices:
        return plan, 1
    if not goldens or not 0 < math.prod(_num_ways(plan)) <= MOST_TRIALS:
        refuse_ambiguity(plan)
    tolerance, best, tried = tolerance_of(model), (math.inf, goldens[0]), 0
    passing: list[PortPlan] = []
    for way in _ways(plan, goldens[0].told):
        tried += 1
        with _ported(way, model):
            found = nearest(model, goldens)
        best = min(best, found, key=lambda one: one[0])
        if found[0] <= tolerance:
            passing.append(way)
    if not passing:
        raise _differs(plan, best[1], best[0], tolerance, f"none of {tried} assignments gives the outputs", causes)
    if len(passing) > 1 and not _are_equal(passing, model, best[1], tolerance):
        refuse_ambiguity(plan)  # samples that show no difference settle nothing
    note = f"{goldens[0].told} told {tried} assignments apart"
    if len(passing) > 1:
        note += f"; {len(passing)} of them compute the same on other inputs, too: equal branches that are exchanged"
    return replace(passing[0], notes=(*plan.notes, note)), tried


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
    if tolerance < error < _NEAR and reference.inputs:
        error, golden = nearest_in_float64(model, reference.goldens)
        golden = replace(golden, kind=f"{golden.kind}, the module in float64 too,")
    if error > tolerance:
        where = first_difference(plan, model, reference, golden)
        raise _differs(plan, golden, error, tolerance, where, causes)
    if reference.inputs and _are_saturated(golden):
        where = first_difference(plan, model, reference, golden)
        if where.startswith("the first layer"):  # outputs that are all 0 or 1 hide it
            raise _differs(plan, golden, error, tolerance, where, causes)
    return (Run(golden.kind, golden.num_samples, error, tolerance, alternatives, golden.layers),)


def _are_saturated(golden: Golden) -> bool:
    """Whether outputs are probabilities that are all 0 or 1, as nearly as float32 tells."""
    return all(bool(((one.abs() < _TINY) | ((one - 1).abs() < _TINY)).all()) for one in golden.outputs)


@contextmanager
def _ported(plan: PortPlan, model: nn.Module) -> Generator[None]:
    """The module with the weights of one assignment; afterwards with its own."""
    undo = carry_out(plan, model)
    try:
        yield
    finally:
        undo()


def _are_equal(ways: Sequence[PortPlan], model: nn.Module, golden: Golden, tolerance: float) -> bool:
    """Whether assignments compute the same on further inputs, as where twins are summed."""
    for seed in range(_FURTHER):
        inputs = further(golden.inputs, seed)
        first: list[Tensor] = []
        for way in ways:
            with _ported(way, model):
                found = outputs_of(model, inputs, golden.at)
            first = first or found or []
            if not found or difference(found, first) > tolerance:
                return False
    return True


def repeated(plan: PortPlan, then: Certificate) -> PortPlan:
    """The plan with each choice as it was made for a certificate; what is open beyond that stays open."""
    layouts = {one.target: one.layout for one in then.mapping}

    def as_then(choice: tuple[Step, ...]) -> list[Step]:
        return [step for step in choice if all(
            layouts.get(full_name(step.target, move.target)) == move.text() for move in step.moves)]  # fmt: skip

    told = [found[0] for choice in plan.choices if (found := as_then(choice))]
    left = tuple(choice for choice in plan.choices if not as_then(choice))
    return replace(plan, steps=(*plan.steps, *told), choices=left)


def _num_ways(plan: PortPlan) -> list[int]:
    return [math.perm(len(one.targets), len(one.sources)) for one in plan.opened] + [len(one) for one in plan.choices]


def _ways(plan: PortPlan, reason: str) -> Iterator[PortPlan]:
    """Every plan with the open groups assigned in one way each."""
    orders = [itertools.permutations(one.targets, len(one.sources)) for one in plan.opened]
    for chosen in itertools.product(*orders):
        steps = list(plan.steps)
        for one, order in zip(plan.opened, chosen, strict=True):
            for source, target in zip(one.sources, order, strict=True):
                made = plan.possible(source, target)
                steps.append(Step(made.source, made.target, made.moves, reason, 1.0))
        for choice in itertools.product(*plan.choices):
            yield replace(plan, steps=(*steps, *choice), opened=(), choices=())


def _differs(plan: PortPlan, golden: Golden, error: float, tolerance: float, what: str, causes: str) -> PortError:
    usual = "epsilon of norms, padding, activations, the order of a flatten, and the preparation of inputs"
    return PortError(
        what="The module does not compute what the source network does.",
        where=f"{plan.path}, {golden.kind} of {golden.num_samples} samples",
        received=f"{what}: relative difference {error:.1e}, allowed {tolerance:.0e}",
        do=f"mend what may be the cause: {causes}; the module is unchanged." if causes else
        f"compare what weights do not show: {usual}; the module is unchanged.",
    )  # fmt: skip
