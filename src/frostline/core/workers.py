"""Calls a function on many arguments in worker processes, in order: reading samples beside the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset

from frostline.core.errors import FrostlineError

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_workers(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], num_workers: int, *, seed: int = 0
) -> Iterator[Result]:
    """The results of a function in the order of its arguments, computed ahead in worker processes.

    Args:
        function: Called once for each argument; where processes are spawned it must be picklable.
        arguments: In the order in which their results come.
        num_workers: Processes; 0 calls the function here, when its result is asked for.
        seed: Of the generators in the workers; those of this process do not move.

    Raises:
        FrostlineError: That of the function, with its four parts.
    """
    if num_workers == 0:
        yield from map(function, arguments)
        return
    loader: DataLoader[Any] = DataLoader(
        _Calls(function), sampler=cast("Any", arguments), batch_size=None, num_workers=num_workers,
        collate_fn=_as_it_is, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    for result in loader:
        if isinstance(result, FrostlineError):
            raise result
        yield result


class _Calls(Dataset[Any]):
    """A function as a dataset; its argument is the index."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._function(index)
        except FrostlineError as error:
            return error  # a worker would wrap it into another text


def _as_it_is(item: Any) -> Any:
    return item
