"""What Python reads from tensors in one run: values and sizes that later batches must give for the head to be valid.

Every value that Python reads from a tensor may steer the model. In the code of modules that hold frozen and trainable
layers, each value of a frozen tensor is a guard, and each size is expected to follow the batch size as it did in the
recordings. A *block* is a call of a module that runs frozen layers only. Values read inside a block steer the frozen
part alone, which `extract` runs for real; they are guards only if the block changes more than the result it returns.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from frostline.splitting.calls.addresses import Frame, Point
from frostline.splitting.calls.containers import outline

if TYPE_CHECKING:
    from collections.abc import Iterable


_PLAIN = frozenset((type(None), bool, int, float, str))  # the usual types, found at once
_SIZED = frozenset((list, dict, set, tuple, OrderedDict))


@dataclass(frozen=True)
class Guard:
    """A Python value that a frozen tensor handed out, and that may have steered the model."""

    point: Point
    value: Any
    line: str

    def holds(self, value: Any) -> bool:
        """True if a later batch hands over the same."""
        return bool(self.value == value) or (self.value != self.value and value != value)


@dataclass(frozen=True)
class Sizes:
    """The shape of one tensor at two batch sizes; at any other it is expected on the line through both."""

    small: tuple[int, ...]
    large: tuple[int, ...]
    batches: tuple[int, int]

    def at(self, batch_size: int) -> tuple[float, ...]:
        """The expected shape; an axis that cannot follow has a fraction and never fits."""
        first, second = self.batches
        share = (batch_size - first) / (second - first)
        return tuple(a + (b - a) * share for a, b in zip(self.small, self.large, strict=True))


@dataclass
class Handed:
    """What was handed to Python in one run.

    Attributes:
        guards: Values of frozen tensors.
        sized: Addresses of the frozen tensors whose sizes were read, and the frames that read them; None for weights
            and for tensors of the trainable part.
        blocks: For every frame inside of a block, the frame of the block itself.
        open_blocks: Blocks that change more than what they return: their insides are guarded.
        decides_by_size: True if the model's code may run in another way at another batch size.
        is_steered: True if a frozen value reached Python anywhere, inside of blocks too.
        catches: True if the model's code handles errors: calls that fail may steer it.
    """

    guards: dict[Point, Guard] = field(default_factory=dict["Point", "Guard"])
    sized: dict[Point | None, set[Frame]] = field(default_factory=dict["Point | None", "set[Frame]"])
    blocks: dict[Frame, Frame] = field(default_factory=dict["Frame", "Frame"])
    open_blocks: set[Frame] = field(default_factory=set["Frame"])
    decides_by_size: bool = False
    is_steered: bool = False
    catches: bool = False

    def opened(self, frame: Frame, outer: Frame, *, is_frozen: bool) -> None:
        """A module was entered: inside of a block everything belongs to the block."""
        block = self.blocks.get(outer)
        if block is None and is_frozen:
            block = frame
        if block is not None:
            self.blocks[frame] = block

    def read_size(self, origin: Point | None, frame: Frame) -> None:
        """A size was read of the tensor with this address."""
        self.sized.setdefault(origin, set()).add(frame)

    def leave_open(self, frame: Frame) -> None:
        """The block around this frame, if there is one, does more than what its result shows."""
        if frame in self.blocks:
            self.open_blocks.add(self.blocks[frame])

    def is_inside_block(self, frame: Frame) -> bool:
        """True if only frozen layers run here."""
        return frame in self.blocks and self.blocks[frame] not in self.open_blocks

    def note_decision(self) -> None:
        """The code that runs frozen and trainable layers together decides by a size."""
        self.decides_by_size = True

    def decide(self, frame: Frame) -> None:
        """A size is known to Python as a plain number in this frame."""
        if not self.is_inside_block(frame):
            self.decides_by_size = True

    def close_blocks(self, crossings: Iterable[Point]) -> None:
        """Forget what was handed over in blocks of which nothing but the result goes on."""
        for point in crossings:
            block = self.blocks.get(point.frame)
            if block is not None and not (point.frame == block and point.operation == "return"):
                self.open_blocks.add(block)
        self.is_steered |= bool(self.guards)
        closed = self.closed()
        returned = {frame for frame in closed if self.blocks[frame] == frame}
        self.guards = {
            point: guard
            for point, guard in self.guards.items()
            if point.frame not in closed or (point.operation == "return" and point.frame in returned)
        }
        self.sized = {origin: frames - closed for origin, frames in self.sized.items() if frames - closed}

    def closed(self) -> set[Frame]:
        """Frames inside of blocks of which nothing but the result goes on."""
        return {frame for frame, block in self.blocks.items() if block not in self.open_blocks}


@dataclass(frozen=True)
class Expected:
    """What a later batch must hand to Python, from two recordings of one mode.

    Attributes:
        guards: Values.
        sizes: Shapes, by the origin of the tensor.
        unguarded: Frames in which nothing is guarded.
        is_steady: False if the two recordings asked for other values, or calls that fail may steer the model: then a
            run goes on to its end.
        decides_by_size: True if the model's code may run in another way at another batch size.
        is_steered: True if a frozen value reached Python anywhere, inside of blocks too.
    """

    guards: dict[Point, Guard]
    sizes: dict[Point, Sizes]
    unguarded: frozenset[Frame]
    is_steady: bool
    decides_by_size: bool
    is_steered: bool

    def asks_more_than(self, other: Expected) -> bool:
        """True if a run of this mode hands over something that one of the other mode does not."""
        return bool(self.guards.keys() - other.guards.keys() or self.sizes.keys() - other.sizes.keys())


def expect(small: tuple[Handed, dict[Point, Tensor], int], large: tuple[Handed, dict[Point, Tensor], int]) -> Expected:
    """What both runs have in common; each comes with its tensors by address, and its batch size."""
    (first, first_origins, first_size), (second, second_origins, second_size) = small, large
    sizes: dict[Point, Sizes] = {}
    for point in first.sized.keys() & second.sized.keys():
        if point is None or point not in first_origins or point not in second_origins:
            continue
        a, b = first_origins[point], second_origins[point]
        if a.dim() == b.dim():
            sizes[point] = Sizes(tuple(a.shape), tuple(b.shape), (first_size, second_size))
    closed = second.closed()
    calls = [{point for point in origins if point.frame not in closed} for origins in (first_origins, second_origins)]
    decides = first.decides_by_size or second.decides_by_size or calls[0] != calls[1]
    is_steady = set(first.guards) == set(second.guards) and not (first.catches or second.catches)
    is_steered = any(handed.is_steered or handed.catches for handed in (first, second))
    return Expected(second.guards, sizes, frozenset(closed), is_steady, decides, is_steered)


def returned_guard(frame: Frame, result: Any, line: str) -> Guard | None:
    """The guard of what a block returns beside tensors: numbers, texts, None, how many tensors there are."""
    if isinstance(result, Tensor):
        return None
    return Guard(Point(frame, "return", 0, "python"), outline(result), line)


def python_state(module: nn.Module) -> dict[tuple[int, str], Any]:
    """Numbers, texts and lengths of containers that a module and its parts keep: does a call move them?"""
    found: dict[tuple[int, str], Any] = {}
    for part in module.modules():
        for name, value in vars(part).items():
            kind = type(value)
            if kind in _PLAIN or isinstance(value, (int, float, str)):
                found[id(part), name] = value
            elif kind in _SIZED or isinstance(value, (list, dict, set, tuple)):
                found[id(part), name] = len(cast("list[Any]", value))
    return found
