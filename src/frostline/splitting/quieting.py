"""Noise that feeds frozen layers from a mixed module: it runs in inference mode, and `explain()` says so.

A dropout that the trainable part shares, or that stands in the forward of a module with frozen and trainable layers,
is out of the reach of `freeze`. Legend: a call (name, n) of a module is quiet; (name, -1) means the module's own
`training` flag, in all its calls.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import NotCacheable
from frostline.splitting.listening import listening
from frostline.splitting.points import Frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from frostline.splitting.recording import Recording

Quiet = dict[tuple[str, int], str]


@dataclass(frozen=True)
class NoiseSource:
    """Where noise was drawn: the module, if it was one without parameters, and the line; and what came of it."""

    module: str | None
    container: str
    nth: int
    line: str
    effect: str = "it feeds frozen layers"


class NoiseOnFrozenSide(Exception):  # noqa: N818 (a signal inside this pillar, never seen by callers)
    """A noisy call of a mixed module feeds frozen layers: record again with that call in inference mode."""

    def __init__(self, source: NoiseSource) -> None:
        self.source = source
        super().__init__(source)


def add_quiet(quiet: Quiet, source: NoiseSource) -> Quiet:
    """One more quiet call.

    Raises:
        NotCacheable: If the call is quiet already and draws noise all the same.
    """
    key = (source.module, source.nth) if source.module is not None else (source.container, -1)
    if key in quiet:
        raise NotCacheable(
            what="The frozen part draws random numbers even in inference mode.",
            where=source.line,
            received=f"noise inside of {source.container or 'the model'!r}: {source.effect}",
            do="make that line depend on self.training, or freeze less deeply.",
        )
    return {**quiet, key: f"{source.line} runs in inference mode: {source.effect}"}


def check_quiet_modules(quiet: Quiet, trained: Recording) -> None:
    """A module whose every call is quiet should simply be frozen: say so instead of doing it silently.

    Raises:
        NotCacheable: If the trainable part does not use such a module.
    """
    for (name, nth), note in quiet.items():
        if nth >= 0 and name not in trained.modules:
            raise NotCacheable(
                what=f"{name!r} draws random numbers and feeds frozen layers.",
                where=f"{name} is in training mode; {note.partition(' runs in')[0]}",
                received="noise on the frozen side of the frost line",
                do=f"frostline.freeze(model, modules=[model.get_submodule({name!r})]), then split again.",
            )


def quiet_reference(model: nn.Module, quiet: Quiet) -> Callable[[Any], Any]:
    """The model as a function of a batch, its quiet calls in inference mode."""

    def run(inputs: Any) -> Any:
        own = batches.map_tensors(inputs, torch.clone)  # a model may write into its inputs
        with listening(_Quieter(model, quiet)) if quiet else nullcontext():
            return batches.call(model, own)

    return run


def in_inference_mode(module: nn.Module, run: Callable[[], Any]) -> Any:
    """Call `run` while the module's own `training` flag is off."""
    was, module.training = module.training, False
    try:
        return run()
    finally:
        module.training = was


class _Quieter:
    def __init__(self, model: nn.Module, quiet: Quiet) -> None:
        self.frames, self.quiet = Frames(model), quiet

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        if not self.frames.is_known(module):
            return run()
        key = (self.frames.names[id(module)], self.frames.calls[self.frames.names[id(module)]])
        self.frames.calls[key[0]] += 1
        if key in self.quiet or (key[0], -1) in self.quiet:
            return in_inference_mode(module, run)
        return run()

    def autograd_function_called(
        self, function: type[torch.autograd.Function], args: tuple[Any, ...], run: Callable[[], Any]
    ) -> Any:
        return run()
