"""The record of one run: a graph of its trainable calls, what crossed the frost line, and what Python read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from frostline.splitting.calls import torch_calls
from frostline.splitting.python_state.sources import Source, catches
from frostline.splitting.recording.changes import LeftValue
from frostline.splitting.recording.guards import Guard, Handed

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor, fx, nn

    from frostline.splitting.calls.addresses import Frame, Point
    from frostline.splitting.recording.omitted_noise import Quiet

_SHOWN = 4  # names in a note


@dataclass
class Crossing:
    """A frozen tensor that a recorded call consumes: the tensor becomes a placeholder of the head.

    Attributes:
        origin: The call that made the tensor.
        read: The later call that wrote into its memory in place before it was consumed, or None.
        tensor: Its value in the recording run.
        version: Its version counter when it was consumed.
        node: The placeholder.
        is_changed_later: True if the model wrote into it afterwards: `extract` takes a copy.
    """

    origin: Point
    read: Point | None
    tensor: Tensor
    version: int
    node: fx.Node
    is_changed_later: bool = False

    @property
    def points(self) -> tuple[Point, ...]:
        """The addresses at which `extract` takes it."""
        return (self.origin,) if self.read is None else (self.origin, self.read)

    @property
    def name(self) -> str:
        """The name in messages and in the frontier."""
        return (self.read or self.origin).name


@dataclass(frozen=True)
class Block:
    """A call of an outermost frozen module, as it was when it returned.

    Attributes:
        frame: The call.
        result: What it returned, its tensors copied.
        inner: Calls of modules inside of it.
        num_lines: Lines of the log until then.
        guards: Values that had reached Python until then.
    """

    frame: Frame
    result: Any
    inner: Counter[str]
    num_lines: int
    guards: dict[Point, Guard]


@dataclass
class Recording:
    """One run of the model on one batch in one mode."""

    graph: fx.Graph
    training: bool
    batch_size: int = 0
    crossings: list[Crossing] = field(default_factory=list["Crossing"])
    handed: Handed = field(default_factory=Handed)
    origins: dict[Point, Tensor] = field(default_factory=dict["Point", "Tensor"])
    modules: dict[str, nn.Module] = field(default_factory=dict[str, "nn.Module"])
    attributes: dict[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    constants: dict[str, Any] = field(default_factory=dict[str, Any])
    entered: dict[str, nn.Module] = field(default_factory=dict[str, "nn.Module"])
    sources: dict[int, Source] = field(default_factory=dict[int, "Source"])
    weights: dict[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    steered_by: list[tuple[Tensor, str]] = field(default_factory=list[tuple["Tensor", str]])
    rebound: dict[str, Any] = field(default_factory=dict[str, Any])
    live: set[str] = field(default_factory=set[str])
    moved: set[str] = field(default_factory=set[str])
    asks_for_gradients: bool = False
    output: Any = None
    left: list[LeftValue] = field(default_factory=list["LeftValue"])
    left_frozen: set[str] = field(default_factory=set[str])
    log: list[str] = field(default_factory=list[str])
    unknown_origins: list[str] = field(
        default_factory=list[str]
    )  # digests of frozen tensors that no recorded call has made
    blocks: list[Block] = field(default_factory=list["Block"])
    sized_by_values: set[Point] = field(default_factory=set["Point"])
    is_unsound: bool = False  # a frozen module is noisy, moves its state or its weights: no head helps

    def released(self, kept: Collection[Point] = ()) -> Recording:
        """Itself, without the values of frozen tensors that do not cross the frost line: their shapes stay.

        Args:
            kept: What crosses in another recording.
        """
        crossing = {own.origin for own in self.crossings}.union(kept)
        for point, tensor in self.origins.items():
            if point not in crossing:
                self.origins[point] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        return self

    def note_sources(self, frame: Frame) -> None:
        """Remember the model's own code that is running now, in the call of a module."""
        for running in torch_calls.user_frames():
            key = id(running.f_code)
            if key not in self.sources:
                self.sources[key] = Source.of_frame(running)
                if not self.handed.is_inside_block(frame):
                    self.handed.catches |= catches(running.f_code)


@dataclass(frozen=True)
class RecorderSettings:
    """What earlier recordings of a model have shown.

    Attributes:
        is_whole: Record modules without frozen parameters as one call each; False enters them.
        quiet: Noise that feeds frozen layers, and is left out.
        live: Buffers that the trainable part writes.
        remade: Frozen tensors that depend on the batch as a whole: the head makes them again.
        replayed: Why no graph holds, so that the head runs the model's own forward; empty for a graph.
        again: Frozen tensors that could be stored, and that the head computes again from what is stored.
        opened: Blocks of frozen layers in which some of these are made: what Python reads there steers the head.
    """

    is_whole: bool
    quiet: Quiet = field(default_factory=dict["Frame | Point", str])
    live: frozenset[str] = frozenset()
    remade: frozenset[Point] = frozenset()
    replayed: str = ""
    again: frozenset[Point] = frozenset()
    opened: frozenset[Frame] = frozenset()

    def but(self, **changes: Any) -> RecorderSettings:
        """The same with something more."""
        return replace(self, **changes)

    def in_mode(self, training: bool) -> RecorderSettings:
        """The same for a recording in one of the modes: inference mode has no noise."""
        return self if training else replace(self, quiet={})

    def notes(self) -> tuple[str, ...]:
        """Notes for `explain()`."""
        names = sorted({point.name for point in self.remade})
        remade = [f"{', '.join(names)}: depends on the whole batch, and is computed in the head"] if names else []
        replayed = (
            [f"the head runs the model's own forward over stored features: {self.replayed}"] if self.replayed else []
        )
        again = sorted({point.name for point in self.again})
        more = f" and {len(again) - _SHOWN} more" if len(again) > _SHOWN else ""
        names = f"{', '.join(again[:_SHOWN])}{more}"
        computed = (
            [f"{names}: not stored, but computed from what is stored, in the batch of each step"] if again else []
        )
        return (*self.quiet.values(), *remade, *computed, *replayed)
