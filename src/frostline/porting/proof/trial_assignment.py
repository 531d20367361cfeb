"""A module that holds one assignment after the other: only the layers that differ are written, and values are kept."""

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

_KEPT_BYTES = 1 << 27  # of values: a search goes back and forth between the same layers


class TrialAssignment:
    """The ways of a plan's open groups that the module holds; what the plan tells is written once.

    Args:
        plan: With open groups.
        model: Its module. It is changed by this class, and put back where `undone` ends.

    Attributes:
        ways: One of each group, as the module holds them; empty for a group that was not written yet.
    """

    def __init__(self, plan: PortPlan, model: nn.Module) -> None:
        self._plan, self._model = plan, model
        self._open = {
            step.target.name: step.target for group in plan.opened for steps in group.steps.values() for step in steps
        }
        self._undo: dict[str, Callable[[], None]] = {}
        self._values: dict[int, list[Tensor]] = {}  # by step, the last one used at the end
        self._left = _KEPT_BYTES
        self.ways: list[Way] = [() for _ in plan.opened]

    @contextmanager
    def undone(self) -> Generator[None]:
        """Inside, the module holds what the plan tells; afterwards what it held before."""
        self._undo = {name: remember([target]) for name, target in self._open.items()}
        undo = carry_out(self._plan, self._model)
        try:
            yield
        finally:
            for back in self._undo.values():
                back()
            undo()

    def put_all(self, ways: Sequence[Way]) -> None:
        """Hold these ways, one of each group."""
        for index, way in enumerate(ways):
            self.put(index, way)

    def put(self, index: int, way: Way) -> None:
        """Hold another way of one group; a layer that it leaves out holds what it held before all of them.

        Raises:
            PortError: As `value_of`.
        """
        before = {id(step) for step in self.ways[index]}
        for name in {step.target.name for step in self.ways[index]} - {step.target.name for step in way}:
            self._undo[name]()
        self.ways[index] = ()  # if a value is refused, the module holds no way of this group
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
