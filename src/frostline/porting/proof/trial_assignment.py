"""A module that takes one assignment after the other in a search: only layers that differ are written each time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from frostline.core.restore import evaluating
from frostline.porting.plan.execution import carry_out, put, remember, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor, nn

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.step import Step

    Way = tuple[Step, ...]

_KEPT_BYTES = 1 << 27  # of converted values: a search writes the same ones many times


class TrialAssignment:
    """The assignments of a plan's open groups that are written into the module; its decided steps are written once.

    Args:
        plan: A plan with open groups.
        model: The module. This class changes it; `undone` restores it.

    Attributes:
        ways: By group: the assignment that is written; empty if none is.
    """

    def __init__(self, plan: PortPlan, model: nn.Module) -> None:
        self._plan, self._model = plan, model
        self._open = {
            step.target.name: step.target for group in plan.opened for steps in group.steps.values() for step in steps
        }
        self._undo: dict[str, Callable[[], None]] = {}
        self._values: dict[int, list[Tensor]] = {}  # by step, the last used one at the end
        self._left = _KEPT_BYTES
        self.ways: list[Way] = [() for _ in plan.opened]

    @contextmanager
    def undone(self) -> Generator[None]:
        """A context in which the decided steps are written; its end restores the module."""
        self._undo = {name: remember([target]) for name, target in self._open.items()}
        undo = carry_out(self._plan, self._model)
        try:
            yield
        finally:
            for back in self._undo.values():
                back()
            undo()

    def put_all(self, ways: Sequence[Way]) -> None:
        """Write these assignments, one for each group."""
        for index, way in enumerate(ways):
            self.put(index, way)

    def put(self, index: int, way: Way) -> None:
        """Write an assignment of one group; layers that it does not contain get their original values.

        Raises:
            PortError: As `value_of`.
        """
        before = {id(step) for step in self.ways[index]}
        for name in {step.target.name for step in self.ways[index]} - {step.target.name for step in way}:
            self._undo[name]()
        self.ways[index] = ()  # if a value is refused, no assignment of this group is written
        with evaluating(self._model):
            for step in way:
                if id(step) not in before:
                    for move, value in zip(step.moves, self._values_of(step), strict=True):
                        put(self._plan, step, move, value)
        self.ways[index] = way

    def _values_of(self, step: Step) -> list[Tensor]:
        found = self._values.pop(id(step), None)
        if found is None:
            found = [value_of(self._plan, step, move) for move in step.moves]
            self._left -= _num_bytes(found)
            while self._left < 0 and self._values:
                self._left += _num_bytes(self._values.pop(next(iter(self._values))))
        self._values[id(step)] = found
        return found


def _num_bytes(values: Sequence[Tensor]) -> int:
    return sum(value.untyped_storage().nbytes() for value in values)
