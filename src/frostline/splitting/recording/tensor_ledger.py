"""The tensors of one run: which call made each, which depend on trainable weights, which share memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.digests import code_digest, tensor_digest
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.addresses import OpenFrame, Point
from frostline.splitting.calls.containers import replace, tensor_paths, tensors_in

if TYPE_CHECKING:
    import types
    from collections.abc import Collection

    from torch import fx

    from frostline.splitting.calls.addresses import Frames
    from frostline.splitting.calls.containers import Path
    from frostline.splitting.recording.run_record import Recording


@dataclass(frozen=True)
class Producer:
    """The frozen call that made a tensor, kept so that it can be made again inside the head; `path` leads to it.

    `versions` are those of its tensor arguments when it ran, `seconds` what it took.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: Path = ()
    versions: tuple[int, ...] = ()
    seconds: float = 0.0

    @property
    def arguments(self) -> list[Tensor]:
        """The tensors that the call reads."""
        return tensors_in((self.args, self.kwargs))


@dataclass
class Origin:
    """When and where a frozen tensor was made; `is_sized` if it follows from sizes alone, such as `arange(B)`.

    `is_written` if the call wrote into the tensor in place: then the producer made its memory, not its values.
    """

    point: Point
    clock: int
    version: int
    producer: Producer | None
    is_sized: bool = False
    is_written: bool = False


Versions = list[tuple[Tensor, int]]


class TensorLedger:
    """All tensors of one run, by identity.

    Attributes:
        live: Buffers that the trainable part writes: they are its state, so reading them is recorded, too.
        nodes: Tensors that depend on trainable weights, each with its node in the graph.
        noise: Those of them that depend on noise alone, each with the source of the noise.
        clock: Counts the calls, so that "later" has a meaning.
    """

    def __init__(self, model: nn.Module, frames: Frames, recording: Recording, live: frozenset[str]) -> None:
        self.frames, self.recording, self.live = frames, recording, live
        self.attributes: dict[int, str] = {}
        self.trainable: set[int] = set()
        for name, tensor in [*model.named_buffers(), *model.named_parameters()]:
            self.attributes[id(tensor)] = name
            if tensor.requires_grad:
                self.trainable.add(id(tensor))
        self._memories = {storage_of(tensor): self.attributes[id(tensor)] for tensor in
                          [*model.buffers(), *model.parameters()]}  # fmt: skip
        self.nodes: dict[int, fx.Node] = {}
        self.noise: dict[int, Any] = {}
        self.origins: dict[int, Origin] = {}
        self.clock = 0
        self._made: set[int] = set()
        self._made_memories: set[int] = set()
        self._writes: dict[int, tuple[int, Point]] = {}
        self._tainted_storages: set[int] = set()
        self._digests: dict[int, str] = {}
        self._codes: dict[types.CodeType, str] = {}
        self._kept: list[Any] = []  # identity means nothing once a tensor is gone

    # Taint

    def is_tainted(self, tensor: Tensor) -> bool:
        """True if the value depends on a trainable weight, or is noise of the trainable part."""
        return (
            tensor.requires_grad
            or id(tensor) in self.nodes
            or self.has_tainted_memory(tensor)
            or self.attributes.get(id(tensor)) in self.live
        )

    def has_tainted_memory(self, tensor: Tensor) -> bool:
        """True if a recorded call wrote into memory that this tensor shares."""
        return bool(self._tainted_storages) and storage_of(tensor) in self._tainted_storages

    def is_known(self, tensor: Tensor) -> bool:
        """True if the run has shown where the tensor comes from."""
        return self.is_made(tensor) or id(tensor) in self.attributes or self.is_tainted(tensor)

    def is_made(self, tensor: Tensor, passed: Collection[int] = ()) -> bool:
        """True for frozen tensors that logged calls of this run have made: the lines of these calls determine them.

        Args:
            tensor: A tensor.
            passed: Memory of tensors that a body was given, where the tensor may be that of one it was given or made.
        """
        if id(tensor) in self.origins or id(tensor) in self._made:
            return True
        return bool(passed) and storage_of(tensor) in (*passed, *self._made_memories)

    def made(self, result: Any) -> None:
        """A call that has a line in the log, and no place in the graph, made these tensors."""
        for tensor in tensors_in(result):
            if id(tensor) not in self.attributes:
                self.keep(tensor)
                self._made.add(id(tensor))
                self._made_memories.add(storage_of(tensor))

    def taint(self, tensor: Tensor, node: fx.Node, noise: Any = None) -> None:
        """From here on the tensor is the result of `node`."""
        self.keep(tensor)
        self.nodes[id(tensor)] = node
        if noise is None:
            self.noise.pop(id(tensor), None)
        else:
            self.noise[id(tensor)] = noise

    def taint_memory(self, tensor: Tensor) -> None:
        """A recorded call wrote into this frozen tensor: everything that shares its memory depends on it now."""
        self._tainted_storages.add(storage_of(tensor))

    # Frozen values

    def add_frozen(
        self, tensor: Tensor, point: Point, producer: Producer | None = None, *, is_sized: bool = False,
        is_written: bool = False,
    ) -> None:  # fmt: skip
        """A frozen call made this tensor."""
        self.keep(tensor)
        self.origins[id(tensor)] = Origin(point, self.clock, version_of(tensor), producer, is_sized, is_written)
        self.recording.origins[point] = tensor

    def frozen_call(
        self, point: Point, func: Any, args: Any, kwargs: dict[str, Any], result: Any, written: list[Tensor],
        seconds: float = 0.0,
    ) -> None:  # fmt: skip
        """Note the results of a frozen call, what it wrote into, and how long it took."""
        self.clock += 1
        self.keep((args, kwargs))
        versions = tuple(version_of(tensor) for tensor in tensors_in((args, kwargs)))
        is_sized = not written and torch_calls.is_small((args, kwargs)) and all(
            self.is_sized(tensor) for tensor in tensors_in((args, kwargs))
        )  # fmt: skip
        for at, (path, tensor) in enumerate(tensor_paths(result)):
            known = self.origins.get(id(tensor))
            is_written = any(tensor is other for other in written)
            if id(tensor) in self.attributes or (known is not None and not is_written):
                continue
            leaf = Point(point.frame, point.operation, point.nth, at)
            producer = known.producer if known else Producer(func, args, kwargs, path, versions, seconds)
            self.add_frozen(tensor, leaf, producer, is_sized=is_sized, is_written=is_written)
        for at, tensor in enumerate(written):
            leaf = Point(point.frame, point.operation, point.nth, f"written{at}" if at else "written")
            self._writes[storage_of(tensor)] = (self.clock, leaf)

    def returned(self, result: Any, frame: OpenFrame) -> None:
        """A frozen module returned: a tensor that was made in it is known by the module's name from now on."""
        for at, tensor in enumerate(tensors_in(result)):
            if id(tensor) in self.nodes or id(tensor) in self.attributes or tensor.requires_grad:
                continue
            known = self.origins.get(id(tensor))
            if known is not None and known.clock <= frame.opened_at and self.last_write(tensor, known) is None:
                continue  # it was made before the module ran, and only passes through
            is_sized = self.is_sized(tensor)
            self.clock += 1
            producer, point = known.producer if known else None, Point(frame.frame, "return", 0, at)
            self.add_frozen(tensor, point, producer, is_sized=is_sized, is_written=self.is_written(tensor))

    def is_sized(self, tensor: Tensor) -> bool:
        """True if the tensor follows from sizes alone, as `torch.arange(B)` and what is computed from it."""
        # Such a value depends on the place in the batch, not on the sample: stored per sample it would be wrong in any
        # other batch, so the head makes it again.
        origin = self.origins.get(id(tensor))
        if origin is None or not origin.is_sized or origin.producer is None or self.last_write(tensor, origin):
            return False
        return all(self.is_sized(source) for source in tensors_in((origin.producer.args, origin.producer.kwargs)))

    def follows_from_weights(self, tensor: Tensor) -> bool:
        """True if no input of the model went into the tensor, only parameters and buffers."""
        waiting, seen = [tensor], set[int]()
        while waiting:
            now = waiting.pop()
            if id(now) in seen or id(now) in self.attributes:
                continue
            seen.add(id(now))
            origin = self.origins.get(id(now))
            if origin is None or origin.producer is None:
                return False
            waiting += tensors_in((origin.producer.args, origin.producer.kwargs))
        return True

    def last_write(self, tensor: Tensor, origin: Origin) -> Point | None:
        """The frozen call that changed the tensor's memory after its origin, if any."""
        clock, point = self._writes.get(storage_of(tensor), (0, None))
        return point if clock > origin.clock else None

    def is_written(self, tensor: Tensor) -> bool:
        """True if a frozen call has written into the tensor after its producer made it."""
        origin = self.origins.get(id(tensor))
        return origin is not None and (origin.is_written or self.last_write(tensor, origin) is not None)

    # Names and versions

    def can_run_again(self, tensor: Tensor) -> bool:
        """True if the call that made the tensor gives the same values again: all that it read is as it was then."""
        origin = self.origins.get(id(tensor))
        producer = origin.producer if origin is not None else None
        if producer is None or self.is_written(tensor):
            return False
        pairs = zip(producer.arguments, producer.versions, strict=True)
        return all(
            not self.is_tainted(own) if id(own) in self.attributes  # the frozen side never writes into these
            else id(own) in self.origins and version_of(own) == version
            for own, version in pairs
        )  # fmt: skip

    def name_of_attribute(self, tensor: Tensor) -> str | None:
        """The qualified name if the tensor is a parameter or buffer of the model."""
        return self.attributes.get(id(tensor))

    def name_of_memory(self, tensor: Tensor) -> str | None:
        """The qualified name if the tensor is, or shares the memory of, a parameter or buffer of the model."""
        return self.attributes.get(id(tensor)) or self._memories.get(storage_of(tensor))

    def digest(self, tensor: Tensor) -> str:
        """The content of a parameter, buffer or constant; computed once, they do not change during a run."""
        if id(tensor) not in self._digests:
            self._digests[id(tensor)] = tensor_digest(tensor)
            self.keep(tensor)
            if (name := self.name_of_attribute(tensor)) is not None:
                self.recording.weights[name] = tensor
        return self._digests[id(tensor)]

    def note_weights(self, arguments: Any) -> None:
        """A frozen call has read these; parameters and buffers among them are noted, and not digested."""
        names = ((self.name_of_attribute(tensor), tensor) for tensor in tensors_in(arguments))
        self.recording.weights.update({name: tensor for name, tensor in names if name is not None})

    def code(self, code: types.CodeType) -> str:
        """The digest of a function that ran; computed once."""
        if code not in self._codes:
            self._codes[code] = code_digest(code)
        return self._codes[code]

    def versions(self, arguments: Any) -> Versions:
        """Version counters of the arguments, before a call that may write into them."""
        return [(tensor, version_of(tensor)) for tensor in tensors_in(arguments)]

    def written(self, before: Versions) -> list[Tensor]:
        """The arguments that the call wrote into."""
        return [tensor for tensor, version in before if version_of(tensor) != version]

    def keep(self, value: Any) -> None:
        """Hold on to a value for the time of the run."""
        self._kept.append(value)


def storage_of(tensor: Tensor) -> int:
    """Identity of the memory that a tensor and its views share."""
    try:
        with torch._C.DisableTorchFunction():  # this question is ours, not the model's
            return tensor.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # sparse and other tensors without one memory
        return -id(tensor)


def version_of(tensor: Tensor) -> int:
    """How often the memory was written in place; inference tensors do not count, and cannot be written."""
    return 0 if torch.is_inference(tensor) else tensor._version


def told_apart(result: Any, before: Versions) -> Any:
    """A module that may leave itself out by chance returns its input as it is: the result is not that input."""
    unwritten = {id(tensor) for tensor, version in before if version_of(tensor) == version}
    return replace(result, lambda tensor: tensor.view_as(tensor) if id(tensor) in unwritten else tensor)
