"""The run of the frozen part: the model's own forward, stopped at the last frontier tensor.

The listener takes the frontier tensors at their addresses, and compares what Python reads with the recording.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import kept_attributes, kept_generators, kept_modes
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.addresses import Frame, Frames, Point
from frostline.splitting.calls.containers import outline, tensors_in
from frostline.splitting.calls.listener import Listener, TorchCalls, listening
from frostline.splitting.recording.guards import Expected, Guard
from frostline.splitting.recording.omitted_noise import Quiet, arguments_of, run_module
from frostline.splitting.recording.tensor_ledger import version_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.splitting.parts.frontier import Entry, Frontier
    from frostline.splitting.recording.frost_line import FrostLine


class _Finished(BaseException):
    """Everything is there; not an Exception, so that no model catches it."""


class Extraction(Listener):
    """One run of the frozen part.

    Args:
        model: The model; its modes are set by the caller.
        frost_line: Wholly frozen modules run without being listened to, unless a frontier tensor lies inside.
        entries: The frontier tensors to take.
        expected: What the run must hand to Python for the head to hold.
        quiet: Noise that is left out.
    """

    def __init__(
        self, model: nn.Module, frost_line: FrostLine, entries: list[Entry], expected: Expected, quiet: Quiet
    ) -> None:  # fmt: skip
        self.model, self.frost_line, self.expected, self.quiet = model, frost_line, expected, quiet
        self.frames = Frames(model)
        self.origins = {entry.origin for entry in entries}
        self.reads: dict[Point, list[Entry]] = {}
        for entry in entries:
            self.reads.setdefault(entry.read or entry.origin, []).append(entry)
        guards, sizes = expected.guards, expected.sizes
        points = [point for point in (*self.origins, *self.reads, *guards, *sizes) if point.operation != "return"]
        self.listened = {point.frame for point in points}
        self.returning = {point.frame for point in (*self.origins, *guards, *sizes) if point.operation == "return"}
        self.held: dict[Point, Tensor] = {}
        self.found: dict[tuple[Point, Point | None], Tensor] = {}
        self.differing: list[tuple[Guard, Any]] = []
        self.unmet = {*guards, *sizes}
        self.batch_size = 0
        self.mode = TorchCalls(self.torch_called)

    def run(self, inputs: Any) -> dict[tuple[Point, Point | None], Tensor]:
        """Run until everything is taken; the caller finds what is missing."""
        root = self.frames.opened(self.model)
        self.batch_size = batches.batch_size(inputs)
        try:
            for name, tensor in batches.leaves(inputs).items():
                self.made(Point(root.frame, "input", 0, name), tensor)
            with listening(self), self.mode:
                batches.call_with_model(self.model, inputs)
        except _Finished:
            return self.found
        for point in self.unmet & self.expected.guards.keys():
            self.differing.append((self.expected.guards[point], "nothing"))
        return self.found

    def made(self, point: Point, tensor: Tensor) -> None:
        """A frozen value was made or changed at this point: take it if it is wanted."""
        if point in self.origins:
            self.held[point] = tensor
        if point in self.expected.sizes:
            self._compare_sizes(point, tensor)
        for entry in self.reads.pop(point, ()):
            held = self.held.get(entry.origin)
            if held is None:
                continue
            with torch._C.DisableTorchFunction():  # taking a value is not a call of the model
                self.found[entry.origin, entry.read] = (
                    held.detach().clone() if entry.is_changed_later else held.detach()
                )
        self._finish_if_done()

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        """Follow the frames; torch calls are listened to only inside of modules where something is to be taken."""
        if not self.frames.is_known(module) or module is self.model:
            return run()
        opened = self.frames.opened(module)
        is_heard = opened.frame in self.listened or self.frost_line.is_mixed(module)
        failure: Exception | None = None
        try:
            with ExitStack() as stack:
                self._switch(is_heard, stack)
                result = run_module(self.quiet, opened.frame, module, run)
        except Exception as error:
            failure = error
            raise
        finally:
            self.frames.close()
            if failure is not None:
                self._failed(Point(opened.frame, "return", 0, "python"), failure)
        if opened.frame in self.returning:
            with torch._C.DisableTorchFunction():  # these questions are ours, not the model's
                self._returned(opened.frame, result)
        return result

    def _compare_sizes(self, point: Point, tensor: Tensor) -> None:
        shape, expected = tuple(tensor.shape), self.expected.sizes[point].at(self.batch_size)
        self.unmet.discard(point)
        if shape != expected:
            foretold = tuple(int(axis) if axis == int(axis) else axis for axis in expected)
            self.differing.append((Guard(point, foretold, f"the shape of {point.name}"), shape))

    def _returned(self, frame: Frame, result: Any) -> None:
        guard = self.expected.guards.get(Point(frame, "return", 0, "python"))
        if guard is not None:
            self._compare(guard, outline(result))
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
        self._called(torch_calls.name_of(torch_calls.apply_function), result, versions)
        return result

    def torch_called(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Every torch call in the frames that are listened to."""
        if torch_calls.name_of(func) == "__iter__":
            return iter(self.torch_called(Tensor.unbind, types, (args[0], 0), {}))
        if torch_calls.asks_for_gradients(func) and not args[0].requires_grad:
            return args[0]
        args, kwargs = arguments_of(self.quiet, self.frames, func, args, kwargs)
        versions = [(tensor, version_of(tensor)) for tensor in tensors_in((args, kwargs))]
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            self._call_failed(func, tensors_in((args, kwargs)), error)
            raise
        if torch_calls.hands_over(func, result):
            self._handed_over(func, result, tensors_in((args, kwargs)))
            return result
        self._called(torch_calls.name_of(func), result, versions)
        return result

    def _called(self, operation: str, result: Any, versions: list[tuple[Tensor, int]]) -> None:
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

    def _handed_over(self, func: Any, result: Any, tensors: list[Tensor]) -> None:
        """A value was handed to Python: is it the one that the recording met?"""
        frame = self.frames.top.frame
        if torch_calls.is_size(func) or frame in self.expected.unguarded or not self._is_guarded(frame):
            return
        if any(tensor.requires_grad for tensor in tensors):
            return  # of the trainable part: the recording has refused all that steers
        point = self.frames.top.point(torch_calls.name_of(func))
        guard = self.expected.guards.get(point)
        value = torch_calls.plain_value(result, tensors)
        self._compare(guard or Guard(point, "nothing", torch_calls.user_line()), value)

    def _call_failed(self, func: Any, tensors: list[Tensor], error: Exception) -> None:
        """A torch call of the innermost frame raised an error, which the model may catch."""
        if not any(tensor.requires_grad for tensor in tensors):  # the recording has refused those of the trainable part
            self._failed(self.frames.top.point(torch_calls.failure_of(func)), error)

    def _failed(self, point: Point, error: Exception) -> None:
        frame = self.frames.top.frame
        if frame not in self.expected.unguarded and self._is_guarded(frame):
            guard = self.expected.guards.get(point)
            self._compare(guard or Guard(point, "nothing", torch_calls.user_line()), type(error).__name__)

    def _is_guarded(self, frame: Frame) -> bool:
        return frame in self.listened or self.frost_line.is_mixed(self.frames.top.module)

    def _compare(self, guard: Guard, value: Any) -> None:
        self.unmet.discard(guard.point)
        if not guard.holds(value):
            self.differing.append((guard, value))
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        """Stop when everything is taken and every value that steers is met, also those that steer the head."""
        if not self.reads and not self.unmet and self.expected.is_steady:
            raise _Finished


def extract_features(
    model: nn.Module,
    frost_line: FrostLine,
    frontier: Frontier,
    expected: dict[bool, Expected],
    quiet: Quiet,
    inputs: Any,
) -> tuple[list[Tensor | None], list[tuple[Guard, Any]]]:
    """The frontier tensors of a batch in the layout of the model, and the guards that differ.

    The frozen part runs in inference mode; a second run in training mode is made only for tensors that no other
    run makes. Gradient mode is on, as it is when the model trains, so that a module takes the same path; nothing
    frozen requires gradients, so nothing is kept.
    """
    values: dict[tuple[bool, Point, Point | None], Tensor] = {}
    differing: list[tuple[Guard, Any]] = []
    with kept_modes(model), kept_attributes(model, numbers=True), kept_generators(), torch.enable_grad():
        for training in (False, True):
            entries = [entry for entry in frontier.entries if entry.from_training is training]
            if not entries and not (training and expected[True].asks_more_than(expected[False])):
                continue
            model.train(training)
            extraction = Extraction(model, frost_line, entries, expected[training], quiet if training else {})
            for (origin, read), tensor in extraction.run(inputs).items():
                values[training, origin, read] = tensor
            differing += extraction.differing
    features = [values.get((entry.from_training, entry.origin, entry.read)) for entry in frontier.entries]
    return features, differing
