"""The recorder: the listener of one run, which writes trainable calls into a graph and frozen calls into a log.

A value is tainted (trainable-dependent) if autograd says so by `requires_grad`. Autograd does not mark integers,
detached values and values written in place; those the recorder follows by hand, in its ledger of tensors.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from frostline.core import inputs as batches
from frostline.core.errors import FrostlineError, NotCacheable
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.addresses import Frame, Frames, Point
from frostline.splitting.calls.containers import (
    calls_itself_otherwise,
    detached,
    has_numbers,
    is_plain,
    template_of,
    tensors_in,
)
from frostline.splitting.calls.listener import Listener, TorchCalls, listening
from frostline.splitting.calls.size_number import tracked
from frostline.splitting.recording import refusals
from frostline.splitting.recording.call_log import CallLog
from frostline.splitting.recording.changes import LeftValues, MovedBuffers, is_own_state, refuse_moved_buffers
from frostline.splitting.recording.graph_writer import GraphWriter, UnknownValue
from frostline.splitting.recording.guards import Guard, python_state, returned_guard
from frostline.splitting.recording.noise import Noise, NoisyModule, PythonNoise
from frostline.splitting.recording.omitted_noise import NoiseOnFrozenSide, NoiseSource, arguments_of, run_module
from frostline.splitting.recording.python_reads import PythonReads
from frostline.splitting.recording.run_record import Block, RecorderSettings, Recording
from frostline.splitting.recording.tensor_ledger import TensorLedger, told_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from frostline.splitting.recording.frost_line import FrostLine
    from frostline.splitting.recording.known_results import KnownResults

# What stops a recording; a model may catch it by mistake.
_SIGNALS = (FrostlineError, UnknownValue, NoiseOnFrozenSide)


class Recorder(Listener):
    """The listener of one run.

    Args:
        model: The model.
        frost_line: Which of its modules are frozen, trainable, mixed.
        settings: What earlier recordings have shown.
        is_logging: Describe every frozen call for the recipe key.
        has_lines: False notes of frozen calls only which weights they read, and tensors of unknown origin.
        known: Results of earlier recordings of the same samples.
        clock: Gives seconds: those of each frozen call are noted.
    """

    def __init__(
        self, model: nn.Module, frost_line: FrostLine, settings: RecorderSettings, *, is_logging: bool,
        has_lines: bool = True, known: KnownResults | None = None, clock: Callable[[], float] = lambda: 0.0,
    ) -> None:  # fmt: skip
        self.clock, self.took = clock, 0.0
        self.model, self.frost_line, self.is_whole = model, frost_line, settings.is_whole
        self.quiet, self.keeps_blocks = settings.quiet, bool(settings.replayed)
        self.frames = Frames(model)
        self.known = known
        self.suspended, self.logs_body = False, False
        self.refused: Exception | None = None
        self.recording = Recording(fx.Graph(), training=model.training)
        self.recording.handed.open_blocks |= settings.opened
        self.ledger = TensorLedger(model, self.frames, self.recording, settings.live)
        self.log = CallLog(self.recording, self.ledger, is_on=is_logging, has_lines=has_lines)
        self.noise = Noise(model, frost_line, self.ledger, self.frames)
        self.writer = GraphWriter(self.recording, self.ledger, frost_line, settings)
        self.reads = PythonReads(self.recording, self.ledger, self.frames, self.noise, self.writer)

    # The run

    def run_once(self, inputs: Any) -> Recording:
        """Run the model on a batch and return the record."""
        recording = self.recording
        recording.batch_size = batches.batch_size(inputs)
        self.noise.python = PythonNoise()
        root = self.frames.opened(self.model)
        for name, tensor in batches.leaves(inputs).items():
            self.ledger.add_frozen(tensor, Point(root.frame, "input", 0, name))
        if self.keeps_blocks:
            self.frost_line.shared.note_rest()
        moved, left = MovedBuffers(self.frost_line, self.ledger, self.recording), LeftValues(self.model)
        with listening(self), TorchCalls(self.torch_called):
            output = batches.call_with_model(self.model, inputs)
        if self.refused is not None:
            raise self.refused  # the model has caught it
        self.noise.notice_python()
        moved.notice()
        recording.output, tensors = template_of(output)
        recording.left, kept, recording.left_frozen = left.found(self.ledger, recording.modules)
        self.writer.finish(tensors, kept)
        recording.handed.close_blocks(point for crossing in recording.crossings for point in crossing.points)
        return recording

    # Modules

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        """Decide whether a module is recorded whole, or entered."""
        with self._noting():
            return self._module_called(module, args, kwargs, run)

    def _module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        if self.suspended or not self.frames.is_known(module):
            self.frames.calls[self.frames.names.get(id(module), "")] += 1  # `extract` counts these calls too
            return run()
        is_frozen_leaf = self._is_frozen_leaf(module)
        if not is_frozen_leaf:  # what is drawn around it is noticed by the module that calls it
            self.noise.notice_python()
        if module is self.model:
            refusals.refuse_backward_hooks(module, "")
            return run()
        name = self.frames.names[id(module)]
        run = partial(run_module, self.quiet, Frame(name, self.frames.calls[name]), module, run)
        with torch._C.DisableTorchFunction():  # these questions are ours, not the model's
            inputs = tensors_in((args, kwargs))
            tainted = [tensor for tensor in inputs if self.ledger.is_tainted(tensor)]
            self.noise.refuse_into(module, tainted)
            if not tainted:
                self.noise.refuse_batch_statistics(module)
            is_whole = self._is_recorded_whole(module, bool(tainted), (args, kwargs))
        if is_whole:
            if is_frozen_leaf:
                self.noise.notice_python()
            return self._record_module(module, args, kwargs, run)
        if not tainted and self.noise.may_be(module):
            return self._enter_or_record(module, args, kwargs, inputs, run)
        return self._enter(module, run, is_fed=bool(tainted))

    def _enter(self, module: nn.Module, run: Callable[[], Any], *, is_fed: bool = False) -> Any:
        if is_fed or self.frost_line.has_trainable(module):
            refusals.refuse_backward_hooks(module, self.frames.names[id(module)])
        is_frozen = not is_fed and not self.frost_line.has_trainable(module)
        outer, frame = self.frames.top, self.frames.opened(module, self.ledger.clock)
        handed, shared = self.recording.handed, self.frost_line.shared
        rests = is_frozen and self.keeps_blocks and shared.is_at_rest()
        # one that exchanges values runs as a mixed module does: the frozen modules inside of it are answered
        is_open = is_frozen and self.keeps_blocks and shared.has(module, beside_contexts=rests)
        handed.opened(frame.frame, outer.frame, is_frozen=is_frozen and not is_open)
        is_block = handed.blocks.get(frame.frame) == frame.frame
        state = python_state(module) if is_block else {}
        calls = self.frames.calls.copy() if self.keeps_blocks else None
        try:
            result = run()
            if not self._is_frozen_leaf(module):
                self.noise.notice_python()
        except Exception as error:
            if isinstance(error, NotCacheable):
                self.recording.is_unsound |= is_block and self.frost_line.has_frozen(module)
            if is_block:
                self._failed(Point(frame.frame, "return", 0, "python"), error, is_trained=False)
            raise
        finally:
            self.frames.close()
        with torch._C.DisableTorchFunction():
            if is_block:
                guard = returned_guard(frame.frame, result, torch_calls.user_line())
                if guard is not None:
                    handed.guards[guard.point] = guard
                rests = rests and shared.is_at_rest()
                if python_state(module) != state or shared.has(module, beside_contexts=rests):
                    handed.leave_open(frame.frame)
                elif calls is not None and self.frost_line.has_frozen(module):
                    kept = detached(result)
                    inner = self.frames.calls - calls
                    block = Block(frame.frame, kept, inner, len(self.recording.log), handed.guards.copy())
                    self.recording.blocks.append(block)
            if not self.frost_line.has_trainable(module):
                self.log.returned(result)
                self.ledger.returned(result, frame)
        return result

    def _enter_or_record(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[Tensor],
        run: Callable[[], Any],
    ) -> Any:  # fmt: skip
        """Enter a module without parameters; if it draws noise, start over and record it whole."""
        if torch_calls.is_batch_norm_in_training(module):
            return self._record_module(module, args, kwargs, run, is_noise=True)
        noise = torch_calls.noise_state()
        with torch._C.DisableTorchFunction():
            kept = [(tensor, tensor.detach().clone(), tensor._version) for tensor in inputs]
        depth, calls = len(self.frames.stack), self.frames.calls.copy()
        try:
            return self._enter(module, run)
        except NoisyModule:
            torch_calls.set_noise_state(noise)
            self.frames.calls = calls
            del self.frames.stack[depth:]
            with torch.no_grad(), torch._C.DisableTorchFunction():
                for tensor, copy, version in kept:
                    if tensor._version != version:
                        tensor.copy_(copy)
        return self._record_module(module, args, kwargs, run, is_noise=True)

    def _record_module(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any],
        *, is_noise: bool = False,
    ) -> Any:  # fmt: skip
        name = self.frames.names[id(module)]
        nth = self.frames.calls[name]
        self.frames.calls[name] += 1
        with torch._C.DisableTorchFunction():
            before, noise = self.ledger.versions((args, kwargs)), torch_calls.noise_state()
        self.suspended = True
        try:
            result = run()
            if self.noise.python.has_drawn() or not torch_calls.is_same_noise(noise, torch_calls.noise_state()):
                result = told_apart(result, before)
        except Exception as error:
            self._failed(Point(self.frames.top.frame, name, nth, "raised"), error, is_trained=True)
            raise
        finally:
            self.suspended = False
        if has_numbers(result):  # they may follow trainable values, and would steer whoever called the module
            raise UnknownValue
        source = NoiseSource(Frame(name, nth), name, torch_calls.user_line()) if is_noise else None
        with torch._C.DisableTorchFunction():
            self.writer.write("call_module", name, (args, kwargs), result, before, source, module)
        return result

    def _is_frozen_leaf(self, module: nn.Module) -> bool:
        """True for one of torch's own layers with frozen parameters and without hooks: it runs no code of others."""
        is_leaf = self.frost_line.is_frozen(module) and self.frost_line.is_torch_leaf(module)
        return is_leaf and not (module._forward_hooks or module._forward_pre_hooks)

    def _is_recorded_whole(self, module: nn.Module, is_fed: bool, arguments: Any) -> bool:
        # An argument that is no plain container, such as a key/value cache, may be filled by the module: such a module
        # is entered, since a graph would call it with the object of the recording.
        if calls_itself_otherwise(module):
            return False
        if self.frost_line.has_frozen(module):
            is_leaf = self.frost_line.is_torch_leaf(module) and not self.frost_line.has_trainable(module)
            return is_leaf and is_fed and is_plain(arguments)
        if not (is_fed or self.frost_line.has_trainable(module)):
            return False
        if self.frost_line.is_torch_leaf(module):
            return is_plain(arguments)
        return is_plain(arguments) and self.is_whole and not self.frost_line.shared.has(module)

    # Torch functions

    def torch_called(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Every torch call of the run comes through here."""
        if self.suspended:
            if not self.logs_body:
                return func(*args, **kwargs)
            with self._noting():
                self.recording.note_sources(self.frames.top.frame)
                return self.log.inner_call(func, args, kwargs)
        with self._noting():
            return self._called(func, types, args, kwargs)

    def _called(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch_calls.name_of(func) == "__iter__":
            return iter(self.torch_called(Tensor.unbind, types, (args[0], 0), {}))
        self.recording.note_sources(self.frames.top.frame)
        args, kwargs = arguments_of(self.quiet, self.frames, func, args, kwargs)
        inputs = tensors_in((args, kwargs))
        self.reads.refuse_unfollowed(func, inputs)
        before, noise = self.ledger.versions((args, kwargs)), torch_calls.noise_state()
        tainted = [tensor for tensor in inputs if self.ledger.is_tainted(tensor)]
        if torch_calls.name_of(func) == "grad_fn" and tainted and torch_calls.is_of_model():
            raise refusals.autograd_error(self.frames.top.frame.name)
        if torch_calls.asks_for_gradients(func):
            if isinstance(args[0], nn.Parameter):
                refusals.refuse_moved_line(self.ledger.name_of_memory(args[0]), args[0], bool((*args[1:], True)[0]))
            elif not tainted:
                self.recording.asks_for_gradients = True
                return args[0]  # gradients of a frozen value: the switch of gradient checkpointing
        self.noise.refuse_into(None, tainted, inputs)
        if tainted and torch_calls.converts(func):
            self.reads.value(func, None, inputs, tainted)
        if torch_calls.renormalises(func, args, kwargs) and not args[1].requires_grad:
            self.recording.is_unsound = True
            raise refusals.frozen_weight_error(self.ledger.name_of_memory(args[1]) or "a weight")
        try:
            result = self._run(func, args, kwargs, is_fed=bool(tainted))
        except Exception as error:
            self._failed(self.frames.top.point(torch_calls.failure_of(func)), error, is_trained=bool(tainted))
            raise
        if torch_calls.hands_over(func, result):
            self.reads.value(func, result, inputs, tainted)
            is_counted = torch_calls.is_size(func) and not self.recording.handed.is_inside_block(self.frames.top.frame)
            return tracked(result, self.recording.handed.note_decision) if is_counted else result
        if type(result) in (tuple, list) and len(inputs) == 1:
            self.reads.size(inputs, tainted, is_decided=True)  # parts of a tensor in a list: Python can count them
        source = None
        if not tainted and (tensors_in(result) or self.ledger.written(before)):
            source = self.noise.source_of(func, args, kwargs, noise)
        if tainted or source or is_own_state(self.frost_line, self.ledger, before):
            self._record_call(func, args, kwargs, result, before, source)
        else:
            self._frozen_call(func, args, kwargs, result, before)
        return result

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_fed: bool) -> Any:
        if self.known is None or is_fed:
            started = self.clock()
            result = func(*args, **kwargs)
            self.took = self.clock() - started
            return result
        place = (self.recording.batch_size, self.frames.top.following(torch_calls.name_of(func)))
        return self.known.call(place, func, args, kwargs)

    def _failed(self, point: Point, error: Exception, *, is_trained: bool) -> None:
        """The model may catch an error of its own, and so learn of a size or a value."""
        if isinstance(error, (*_SIGNALS, NoisyModule)):
            return
        if is_trained:
            self.refused = self.refused or refusals.trainable_failure_error(point.frame.name, error)
        self.recording.handed.decide(point.frame)
        self.recording.handed.guards[point] = Guard(point, type(error).__name__, torch_calls.user_line())

    @contextmanager
    def _noting(self) -> Generator[None]:
        """Remember a refusal, which the model's own `except` may catch."""
        try:
            yield
        except _SIGNALS as error:
            self.refused = self.refused or error
            raise

    def _record_call(
        self, func: Any, args: Any, kwargs: dict[str, Any], result: Any, before: Any, source: NoiseSource | None
    ) -> None:
        has_effect = tensors_in(result) or self.ledger.written(before) or torch_calls.is_setter(func)
        if torch_calls.is_hook(func):
            refusals.refuse_closed_over_tensors(args[1], self.frames.top.frame.name)
            has_effect = True
        if not has_effect:
            return
        self.frames.top.point(torch_calls.name_of(func))
        self.recording.handed.leave_open(self.frames.top.frame)
        if torch_calls.is_setter(func) and (name := self.ledger.name_of_memory(args[0])) is not None:
            self.recording.live.add(name)
        op, target, args = torch_calls.as_node(func, args, kwargs)
        self.writer.write(op, target, (args, kwargs), result, before, source, None)

    def _frozen_call(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any, before: Any) -> None:
        written = self.ledger.written(before)
        if torch_calls.is_setter(func) and torch_calls.name_of(func) == "data":
            written = [*written, args[0]]
        if not tensors_in(result) and not written:
            return
        refuse_moved_buffers(self.ledger, written)
        point = self.frames.top.point(torch_calls.name_of(func))
        self.recording.sized_by_values.update([point] if torch_calls.is_sized_by_values(func, args) else [])
        self.ledger.frozen_call(point, func, args, kwargs, result, written, self.took)
        self.log.call(func, args, kwargs, result)

    def autograd_function_called(
        self, function: type[torch.autograd.Function], args: tuple[Any, ...], run: Callable[[], Any]
    ) -> Any:
        """A custom autograd Function is one call: its body would lose its own backward."""
        if self.suspended:
            return run()
        with torch._C.DisableTorchFunction():
            before = self.ledger.versions((args, {}))
            is_tainted = any(self.ledger.is_tainted(tensor) for tensor in tensors_in(args))
        self.suspended, self.logs_body = True, self.log.is_on and not is_tainted
        try:
            result = run()
        finally:
            self.suspended, self.logs_body = False, False
        with torch._C.DisableTorchFunction():
            if is_tainted:
                self.frames.top.point(torch_calls.name_of(torch_calls.apply_function))
                self.writer.write(
                    "call_function", torch_calls.apply_function, ((function, *args), {}), result, before, None, None
                )
                return result
            self.log.function_returned(args, result)
            self._frozen_call(torch_calls.apply_function, (function, *args), {}, result, before)
        return result

    def script_called(self, script: Any, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]) -> Any:
        """A scripted function is one frozen call; no graph holds one that is fed by trainable values."""
        if self.suspended and not self.logs_body:
            return run()
        with self._noting():
            return self.log.script(script, args, kwargs, run())
