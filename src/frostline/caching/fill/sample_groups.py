"""Samples that wait for their frozen pass until a batch is full, or too many samples wait."""

from __future__ import annotations

from typing import Any

from frostline.core.padding import size_of

# Of samples that differ in size, so many batches wait in memory; then the largest group is computed, full or not.
_MOST_BATCHES = 32


class SampleGroups:
    """Groups of samples that are computed together.

    Args:
        batch_size: Samples of a full group.
        is_one_size: All samples have one size; else those of one size make a group, and nothing is padded.
    """

    def __init__(self, batch_size: int, *, is_one_size: bool) -> None:
        self.batch_size, self.is_one_size = batch_size, is_one_size
        self._groups: dict[Any, dict[int, Any]] = {}
        self._count = 0

    def add(self, index: int, inputs: Any) -> list[dict[int, Any]]:
        """One more sample.

        Returns:
            Groups that are due: inputs by position.
        """
        size = None if self.is_one_size else size_of(inputs)
        group = self._groups.setdefault(size, {})
        group[index] = inputs
        self._count += 1
        if len(group) == self.batch_size:
            return [self._taken(size)]
        if self._count >= _MOST_BATCHES * self.batch_size:
            return [self._taken(max(self._groups, key=lambda own: len(self._groups[own])))]
        return []

    def rest(self) -> list[dict[int, Any]]:
        """The groups that are left."""
        return [self._taken(size) for size in list(self._groups)]

    def _taken(self, size: Any) -> dict[int, Any]:
        group = self._groups.pop(size)
        self._count -= len(group)
        return group
