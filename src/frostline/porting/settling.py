"""What names and order left open, settled by running the module: the outputs of the source network decide."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.core.errors import PortError
from frostline.porting.certificate import Certificate, Run
from frostline.porting.execution import exchange, make_values
from frostline.porting.plan import PortPlan, Step, refuse_ambiguity
from frostline.porting.running import Golden, error_of, tolerance_of
from frostline.porting.units import full_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

MOST_TRIALS = 1_000  # assignments that are run


def settle(plan: PortPlan, model: nn.Module, golden: Golden | None) -> tuple[PortPlan, int]:
    """The plan with nothing left open.

    Args:
        plan: As names and order left it.
        model: The module; unchanged afterwards.
        golden: What the source network gives.

    Returns:
        The plan, and how many assignments were run.

    Raises:
        PortError: If none of them gives the golden outputs.
        AmbiguousPortError: If there are too many of them.
    """
    if not plan.opened and not plan.choices:
        return plan, 1
    if golden is None or math.prod(_num_ways(plan)) > MOST_TRIALS:
        refuse_ambiguity(plan)
    assert golden is not None
    tolerance, best, tried = tolerance_of(model), math.inf, 0
    passing: list[PortPlan] = []
    for way in _ways(plan):
        tried += 1
        values = make_values(way)
        exchange(way, values)
        try:
            error = error_of(model, golden)
        finally:
            exchange(way, values)
        best = min(best, error)
        if error <= tolerance:
            passing.append(way)
    if not passing:
        raise _differs(plan, golden, best, tolerance, f"none of {tried} assignments gives the outputs")
    if len(passing) > 1:  # samples that show no difference settle nothing
        refuse_ambiguity(plan)
    note = f"the golden outputs told {tried} assignments apart"
    return replace(passing[0], notes=(*plan.notes, note)), tried


def prove(plan: PortPlan, model: nn.Module, golden: Golden | None, alternatives: int) -> tuple[Run, ...]:
    """Run the module as it is now beside the source's outputs.

    Raises:
        PortError: If they differ.
    """
    if golden is None:
        return ()
    error, tolerance = error_of(model, golden), tolerance_of(model)
    if error > tolerance:
        raise _differs(plan, golden, error, tolerance, "the weights are all assigned, and the outputs differ")
    return (Run(golden.kind, golden.num_samples, error, tolerance, alternatives),)


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


def _ways(plan: PortPlan) -> Iterator[PortPlan]:
    """Every plan with the open groups assigned in one way each."""
    orders = [itertools.permutations(one.targets, len(one.sources)) for one in plan.opened]
    for chosen in itertools.product(*orders):
        steps = list(plan.steps)
        for one, order in zip(plan.opened, chosen, strict=True):
            for source, target in zip(one.sources, order, strict=True):
                made = plan.possible(source, target)
                steps.append(Step(made.source, made.target, made.moves, "golden outputs", 1.0))
        for choice in itertools.product(*plan.choices):
            yield replace(plan, steps=(*steps, *choice), opened=(), choices=())


def _differs(plan: PortPlan, golden: Golden, error: float, tolerance: float, what: str) -> PortError:
    return PortError(
        what="The module does not compute what the source network does.",
        where=f"{plan.path}, {golden.kind} of {golden.num_samples} samples",
        received=f"{what}: relative difference {error:.1e}, allowed {tolerance:.0e}",
        do="compare what weights do not show: epsilon of norms, padding, activations, the order of a flatten, and the "
        "preparation of inputs; the module is unchanged.",
    )  # fmt: skip
