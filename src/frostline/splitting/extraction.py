"""Runs the frozen part only: the model's own forward, stopped at the last frontier tensor."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily

from frostline.core import inputs as batches
from frostline.core.restore import kept_attributes, kept_modes
from frostline.splitting import operations
from frostline.splitting.listening import listening
from frostline.splitting.points import Frame, Frames, Point
from frostline.splitting.structure import tensors_in
from frostline.splitting.values import version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.splitting.frontiers import Entry, Frontier
    from frostline.splitting.kinds import Kinds
    from frostline.splitting.recording import Guard


class _Finished(BaseException):
    """Everything is there; not an Exception, so that no model catches it."""


class Extraction:
    """One run of the frozen part.

    Args:
        model: The model; its modes are set by the caller.
        kinds: Wholly frozen modules run without being listened to, unless a frontier tensor lies inside.
        entries: The frontier tensors to take.
        guards: Python values to compare with those of the recording.
    """

    def __init__(self, model: nn.Module, kinds: Kinds, entries: list[Entry], guards: dict[Point, Guard]) -> None:
        self.model, self.kinds, self.guards = model, kinds, guards
        self.frames = Frames(model)
        self.births = {entry.birth for entry in entries}
        self.reads: dict[Point, list[Entry]] = {}
        for entry in entries:
            self.reads.setdefault(entry.read or entry.birth, []).append(entry)
        points = [point for point in (*self.births, *self.reads, *guards) if point.operation != "return"]
        self.listened = {point.frame for point in points}
        self.returning = {birth.frame for birth in self.births if birth.operation == "return"}
        self.held: dict[Point, Tensor] = {}
        self.found: dict[tuple[Point, Point | None], Tensor] = {}
        self.differing: list[tuple[Guard, Any]] = []
        self.unmet = set(guards)
        self.mode = _Mode(self)

    def run(self, inputs: Any) -> dict[tuple[Point, Point | None], Tensor]:
        """Run until everything is taken; the caller finds what is missing."""
        root = self.frames.opened(self.model)
        for name, tensor in batches.leaves(inputs).items():
            self.made(Point(root.frame, "input", 0, name), tensor)
        try:
            with listening(self), self.mode:
                batches.call_with_model(self.model, inputs)
        except _Finished:
            pass
        return self.found

    def made(self, point: Point, tensor: Tensor) -> None:
        """A frozen value was made or changed at this point: take it if it is wanted."""
        if point in self.births:
            self.held[point] = tensor
        for entry in self.reads.pop(point, ()):
            held = self.held.get(entry.birth)
            if held is None:
                continue
            with torch._C.DisableTorchFunction():  # taking a value is not a call of the model
                self.found[entry.birth, entry.read] = held.detach().clone() if entry.is_changed_later else held.detach()
        self._finish_if_done()

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        """Follow the frames; listen inside only where something is to be heard."""
        if not self.frames.is_known(module) or module is self.model:
            return run()
        opened = self.frames.opened(module)
        is_heard = opened.frame in self.listened or self.kinds.is_mixed(module)
        try:
            with ExitStack() as stack:
                self._switch(is_heard, stack)
                result = run()
        finally:
            self.frames.close()
        self._returned(opened.frame, result)
        return result

    def _returned(self, frame: Frame, result: Any) -> None:
        if frame in self.returning:
            for at, tensor in enumerate(tensors_in(result)):
                self.made(Point(frame, "return", 0, at), tensor)

    def _switch(self, is_heard: bool, stack: ExitStack) -> None:
        if is_heard and not self.mode.is_on:
            stack.enter_context(self.mode)
        elif not is_heard and self.mode.is_on:
            stack.enter_context(self.mode.off())

    def autograd_function_called(
        self, function: type[torch.autograd.Function], args: tuple[Any, ...], run: Callable[[], Any]
    ) -> Any:
        """One call, as in the recording."""
        if not self.mode.is_on:
            return run()
        versions = [(tensor, version_of(tensor)) for tensor in tensors_in(args)]
        with self.mode.off():
            result = run()
        self.called(function.__name__, result, versions)
        return result

    def called(self, operation: str, result: Any, versions: list[tuple[Tensor, int]]) -> None:
        """A torch call was made in the innermost frame."""
        written = [tensor for tensor, version in versions if version_of(tensor) != version]
        made = tensors_in(result)
        if not made and not written:
            return
        point = self.frames.top.point(operation)
        for at, tensor in enumerate(made):
            self.made(Point(point.frame, operation, point.nth, at), tensor)
        for at, tensor in enumerate(written):
            self.made(Point(point.frame, operation, point.nth, f"written{at}" if at else "written"), tensor)

    def steered(self, func: Any, value: Any) -> None:
        """A value was handed to Python: is it the one that the recording met?"""
        guard = self.guards.get(self.frames.top.point(operations.name_of(func)))
        if guard is None:
            return
        self.unmet.discard(guard.point)
        if not _is_equal(guard.value, value):
            self.differing.append((guard, value))
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        """Stop when everything is taken and every value that steers is met, also those that steer the head."""
        if not self.reads and not self.unmet:
            raise _Finished


class _Mode(TorchFunctionMode):
    """Hears torch calls in the frames that matter."""

    def __init__(self, extraction: Extraction) -> None:
        super().__init__()
        self.extraction = extraction
        self.is_on = False

    def __enter__(self) -> _Mode:
        super().__enter__()
        self.is_on = True
        return self

    def __exit__(self, *error: Any) -> None:
        self.is_on = False
        super().__exit__(*error)

    def off(self) -> Any:
        """Not heard for the time of a block."""
        stack = ExitStack()
        stack.enter_context(_pop_mode_temporarily())
        self.is_on = False
        stack.callback(setattr, self, "is_on", True)
        return stack

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if operations.name_of(func) == "__iter__":
            return iter(self.__torch_function__(Tensor.unbind, types, (args[0], 0)))
        if operations.is_steering(func):
            value = func(*args, **kwargs)
            self.extraction.steered(func, value)
            return value
        versions = [(tensor, version_of(tensor)) for tensor in tensors_in((args, kwargs))]
        result = func(*args, **kwargs)
        self.extraction.called(operations.name_of(func), result, versions)
        return result


def extract_features(
    model: nn.Module, kinds: Kinds, frontier: Frontier, guards: dict[bool, dict[Point, Guard]], inputs: Any
) -> tuple[list[Tensor | None], list[tuple[Guard, Any]]]:
    """The frontier tensors of a batch in the layout of the model, and the guards that differ.

    The frozen part runs in inference mode; a second run in training mode is made only for tensors that no other
    run makes. Gradient mode is on, as it is when the model trains, so that a module takes the same path; nothing
    frozen requires gradients, so nothing is kept.
    """
    values: dict[tuple[bool, Point, Point | None], Tensor] = {}
    differing: list[tuple[Guard, Any]] = []
    with kept_modes(model), kept_attributes(model, numbers=False), torch.enable_grad():
        for training in (False, True):
            entries = [entry for entry in frontier.entries if entry.from_training is training]
            if not entries:
                continue
            model.train(training)
            extraction = Extraction(model, kinds, entries, guards[training])
            for (birth, read), tensor in extraction.run(inputs).items():
                values[training, birth, read] = tensor
            differing += extraction.differing
    features = [values.get((entry.from_training, entry.birth, entry.read)) for entry in frontier.entries]
    return features, differing


def _is_equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other) or (one != one and other != other)
