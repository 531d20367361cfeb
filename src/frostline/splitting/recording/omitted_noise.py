"""Noise that feeds frozen layers from a mixed module: it is left out, and `explain()` says so.

`freeze` does not reach a dropout that the trainable part shares (T5), nor one that stands in the forward of a module
with frozen and trainable layers (BART). Only the call that feeds frozen layers is left out, in cached and uncached
trainings alike. Considered: the `training` flag of the whole mixed module; it turned off the noise of its trainable
part, too.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from frostline.core.errors import NotCacheable
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.addresses import Frame, Frames, Point
from frostline.splitting.calls.listener import Listener, TorchCalls, listening, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from torch import nn

    from frostline.splitting.recording.run_record import Recording

# What is left out: calls of modules or functions, each with a note for `explain()`.
Quiet = dict[Frame | Point, str]

# Functions with a switch for their noise, and the name of that argument; it is the third of each.
_DROPOUTS: dict[Any, str] = {
    F.dropout: "training", F.dropout1d: "training", F.dropout2d: "training", F.dropout3d: "training",
    F.alpha_dropout: "training", F.feature_alpha_dropout: "training",
    torch.dropout: "train", torch.feature_dropout: "train",
    torch.alpha_dropout: "train", torch.feature_alpha_dropout: "train",
}  # fmt: skip


@dataclass(frozen=True)
class NoiseSource:
    """Where noise was drawn: the call, if that call alone can be left out; the module around it, and the line."""

    call: Frame | Point | None
    container: str
    line: str


class NoiseOnFrozenSide(Exception):  # noqa: N818 (a signal inside this pillar, never seen by callers)
    """A noisy call of a mixed module feeds frozen layers: record again without it."""

    def __init__(self, source: NoiseSource) -> None:
        self.source = source
        super().__init__(source)


def add_quiet(quiet: Quiet, source: NoiseSource) -> Quiet:
    """One more quiet call.

    Raises:
        NotCacheable: If the call cannot be left out, or draws noise all the same.
    """
    call = source.call
    if call is None:
        raise NotCacheable(
            what="Random numbers that a module with frozen and trainable layers draws feed frozen layers.",
            where=f"{source.container or 'the model'}, {source.line}",
            received="noise that is no dropout",
            do="move that line into the dataset's transform (fit(views=4) keeps four draws of each sample) or behind "
            "the frozen layers; or into a module of its own that does nothing in inference mode, then freeze that with "
            "frostline.freeze(model, modules=[...]); or train with frostline.fit(..., cache=False).",
        )
    if call in quiet:
        raise NotCacheable(
            what="The frozen part draws random numbers even in inference mode.",
            where=source.line,
            received=f"noise inside of {source.container or 'the model'} that feeds frozen layers",
            do="move an augmentation into the dataset's transform (fit(views=4) keeps four draws of each sample); let "
            "other noise depend on self.training of a module that is frozen, or freeze less deeply; or train with "
            "frostline.fit(..., cache=False).",
        )
    return {**quiet, call: f"{source.line} runs in inference mode: it feeds frozen layers"}


def check_quiet_modules(quiet: Quiet, trained: Recording) -> None:
    """A module whose every call is quiet should simply be frozen: say so instead of doing it silently.

    Raises:
        NotCacheable: If the trainable part does not use such a module.
    """
    for call, note in quiet.items():
        if isinstance(call, Frame) and call.name not in trained.modules:
            raise NotCacheable(
                what=f"{call.name!r} draws random numbers and feeds frozen layers.",
                where=f"{call.name} is in training mode; {note.partition(' runs in')[0]}",
                received="noise on the frozen side of the frost line",
                do=f"frostline.freeze(model, modules=[model.get_submodule({call.name!r})]), then split again.",
            )


def is_dropout(func: Any) -> bool:
    """True for a function with a switch for its noise."""
    return func in _DROPOUTS


def run_module(quiet: Mapping[Frame | Point, str], frame: Frame, module: nn.Module, run: Callable[[], Any]) -> Any:
    """Call `run`, the call of a module, with the module's own `training` flag off if this call is quiet."""
    if frame not in quiet:
        return run()
    was, module.training = module.training, False
    try:
        return run()
    finally:
        module.training = was


def arguments_of(
    quiet: Mapping[Frame | Point, str], frames: Frames, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call of the innermost frame: those of a quiet dropout leave everything as it is."""
    if func not in _DROPOUTS or frames.top.following(torch_calls.name_of(func)) not in quiet:
        return args, kwargs
    if len(args) > 2:
        return (*args[:2], False, *args[3:]), kwargs
    return args, {**kwargs, _DROPOUTS[func]: False}


@contextmanager
def quieted(model: nn.Module, quiet: Mapping[Frame | Point, str]) -> Generator[None]:
    """For the time of the block, the model leaves out the noise of its frozen side whenever it is called."""
    if not quiet:
        yield
        return
    running = ExitStack()

    def before(module: nn.Module, inputs: Any) -> None:
        if module.training:  # inference mode has no noise
            quieter = _Quieter(module, quiet)
            running.enter_context(listening(quieter))
            running.enter_context(TorchCalls(quieter.torch_called))

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        running.close()

    handles = (
        model.register_forward_pre_hook(before),
        model.register_forward_hook(after, always_call=True),
    )
    try:
        with wrapped():
            yield
    finally:
        running.close()
        for handle in handles:
            handle.remove()


class _Quieter(Listener):
    """A listener of one call of a model, which leaves out the noise."""

    def __init__(self, model: nn.Module, quiet: Mapping[Frame | Point, str]) -> None:
        self.frames, self.quiet = Frames(model), quiet
        self.frames.opened(model)

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        if not self.frames.is_known(module):
            return run()
        frame = self.frames.opened(module).frame
        try:
            return run_module(self.quiet, frame, module, run)
        finally:
            self.frames.close()

    def torch_called(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = arguments_of(self.quiet, self.frames, func, args, kwargs)
        if is_dropout(func):
            self.frames.top.point(torch_calls.name_of(func))
        return func(*args, **kwargs)
