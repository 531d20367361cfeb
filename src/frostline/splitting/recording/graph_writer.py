"""Writes the trainable calls of a run into an `fx.Graph`, in the order in which they ran."""

from __future__ import annotations

import operator
from dataclasses import replace as replace_path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, fx

from frostline.core.errors import SplitError
from frostline.splitting.calls.containers import Path, replace, tensor_paths, tensors_in
from frostline.splitting.calls.grad_and_autocast import Region, current_region, enter_region
from frostline.splitting.calls.size_number import SizeNumber, plain
from frostline.splitting.calls.torch_calls import as_node, is_factory
from frostline.splitting.recording.run_record import Crossing, RecorderSettings, Recording
from frostline.splitting.recording.tensor_ledger import Producer, TensorLedger, Versions, storage_of, version_of

if TYPE_CHECKING:
    from torch import nn

    from frostline.splitting.calls.addresses import Point
    from frostline.splitting.recording.frost_line import FrostLine

# Values that `fx` writes into the code of a graph as they are; all others become attributes of the head.
_PLAIN = (
    str, int, float, bool, complex, type(None), torch.dtype, torch.device, torch.memory_format, torch.layout,
    type(...), fx.Node,
)  # fmt: skip


class UnknownValue(Exception):  # noqa: N818 (a signal inside this pillar, never seen by callers)
    """A trainable-dependent value that no recorded call made: record again, entering every module."""


def check_sizes(tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Check the shape of a tensor whose sizes Python has read: decisions hold only for the shape in the recordings.

    Raises:
        SplitError: If the tensor has another shape, which follows from values.
    """
    if tuple(tensor.shape) != tuple(expected):
        raise SplitError(
            what="The size of a tensor in the trainable part depends on the values of this batch.",
            where="split.head",
            received=f"shape {tuple(tensor.shape)}, expected {tuple(expected)}",
            do="train with frostline.fit(..., cache=False), or compute without that size (a mask and a weighted sum).",
        )


def copied(tensor: Tensor) -> Tensor:
    """A copy to be written into: stored features are never changed."""
    return tensor.clone()


class GraphWriter:
    """The graph of one run, and what its nodes refer to."""

    def __init__(
        self, recording: Recording, ledger: TensorLedger, frost_line: FrostLine, settings: RecorderSettings
    ) -> None:
        self.remade, self.again = settings.remade, settings.again
        self.recording, self.ledger, self.frost_line = recording, ledger, frost_line
        self.graph = recording.graph
        # The head is called in whatever surrounds it; only what the model changes of grad mode and autocast is written.
        self._ambient = self._region = current_region()
        self._placeholders: dict[tuple[int, int], fx.Node] = {}
        self._attributes: dict[int, fx.Node] = {}
        self._called_again: dict[int, fx.Node] = {}  # by the keywords of the call, a dict of its own
        self._caller: fx.Node | None = None
        self._checked: set[int] = set()

    def write(
        self, op: str, target: Any, arguments: tuple[tuple[Any, ...], dict[str, Any]], result: Any,
        before: Versions, noise: Any, module: nn.Module | None,
    ) -> None:  # fmt: skip
        """Add one call that has just run, and remember its results.

        Args:
            op: `call_function`, `call_method` or `call_module`.
            target: Function, method name or module name.
            arguments: (args, kwargs) as the model passed them.
            result: What the call returned.
            before: Version counters of the tensor arguments before the call.
            noise: The source, if the call is noise that nothing trainable feeds.
            module: The module of a `call_module`.
        """
        versions = {id(tensor): version for tensor, version in before}
        written = self.ledger.written(before)
        inherited = self._inherited_noise(arguments, noise, module)
        for tensor in written:
            self._make_writable(tensor, versions[id(tensor)])
            if (name := self.ledger.name_of_memory(tensor)) is not None:  # a buffer: it moves in every batch
                self.recording.live.add(name)
        args, kwargs = self._as_nodes(arguments, versions)
        self._follow_region()
        node = self.graph.create_node(op, target, args, kwargs)
        top = self.ledger.frames.top
        self.recording.entered[top.frame.name] = top.module
        if module is not None:
            self.recording.modules[target] = module
        self._remember(node, result, written, inherited)

    def check_sizes(self, tensor: Tensor) -> None:
        """Add a check that the tensor, whose sizes were read, has the shape that follows from the recordings."""
        if id(tensor) in self._checked or self.ledger.name_of_attribute(tensor) is not None:
            return
        self._checked.add(id(tensor))
        self.ledger.keep(tensor)  # an id means this tensor only as long as it lives
        node = self.node_of(tensor, version_of(tensor))
        self.graph.call_function(check_sizes, (node, tuple(tensor.shape)))

    def finish(self, outputs: list[Tensor], left: list[Tensor]) -> None:
        """Write the output, the buffers that forward replaced, and what it leaves in attributes."""
        if self._region != self._ambient:
            self._region = self._ambient
            self._write_region(self._ambient)
        nodes = tuple(self.node_of(tensor, version_of(tensor)) for tensor in outputs)
        rebound = tuple(self.recording.rebound.values())
        kept = tuple(self.node_of(tensor, version_of(tensor)) for tensor in left)
        self.graph.output((nodes, rebound, kept))
        # A feature that the model writes into later has to be copied when it is made.
        for crossing in self.recording.crossings:
            crossing.is_changed_later = version_of(crossing.tensor) != crossing.version

    # From tensors to nodes

    def node_of(self, tensor: Tensor, version: int) -> fx.Node:
        """The node that gives this tensor inside the head; a frozen one becomes a placeholder."""
        if id(tensor) in self.ledger.nodes:
            return self.ledger.nodes[id(tensor)]
        if self.ledger.name_of_attribute(tensor) is not None:
            return self._attribute(tensor)
        if self.ledger.has_tainted_memory(tensor):
            return self._view_again(tensor)
        if tensor.requires_grad:  # made where nothing is heard, such as inside of a module that is called whole
            raise UnknownValue
        return self._frozen_node(tensor, version)

    def _frozen_node(self, tensor: Tensor, version: int) -> fx.Node:
        """A tensor that was written in place between two uses has two values, hence two placeholders."""
        key = (id(tensor), version)
        if key not in self._placeholders:
            self._placeholders[key] = self._cross(tensor, version)
        return self._placeholders[key]

    def _cross(self, tensor: Tensor, version: int) -> fx.Node:
        """How the head gets a frozen tensor: as a constant, by the same call where that is exact, or as a feature."""
        origin = self.ledger.origins.get(id(tensor))
        if origin is None:
            return self._constant(tensor)
        producer = origin.producer
        if producer is not None and (self.ledger.is_sized(tensor) or self._is_remade(origin.point, producer, tensor)):
            return self._call_again(producer)
        if producer is not None and origin.point in self.again and self.ledger.can_run_again(tensor):
            return self._called_once_more(origin.point, producer)
        with self.graph.inserting_before(self._first_call()):
            node = self.graph.placeholder(f"feature_{len(self.recording.crossings)}")
        read = self.ledger.last_write(tensor, origin)
        self.recording.crossings.append(Crossing(origin.point, read, tensor, version, node))
        return node

    def _is_remade(self, point: Point, producer: Producer, tensor: Tensor) -> bool:
        """True for a tensor that depends on the whole batch and that no frozen layer has made."""
        if point not in self.remade or self.ledger.is_written(tensor):
            return False
        return not any(map(self.frost_line.is_frozen_parameter, tensors_in((producer.args, producer.kwargs))))

    def _called_once_more(self, point: Point, producer: Producer) -> fx.Node:
        """The result of a frozen call that the head makes once for all of its results."""
        module = self.frost_line.model.get_submodule(point.frame.name)
        self.recording.entered[point.frame.name] = module
        self.recording.handed.leave_open(point.frame)
        key = id(producer.kwargs)
        if key not in self._called_again:
            self._called_again[key] = self._call_again(replace_path(producer, path=()))
        return self._part(self._called_again[key], producer.path)

    def _first_call(self) -> fx.Node:
        return next((node for node in self.graph.nodes if node.op != "placeholder"), self.graph._root)

    def _attribute(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self._attributes:
            name = self.ledger.attributes[id(tensor)]
            self.recording.attributes[name] = tensor
            self._attributes[id(tensor)] = self.graph.get_attr(name)
        return self._attributes[id(tensor)]

    def _constant(self, value: Any) -> fx.Node:
        """Equality would call code of the value, and may be costly: only the same object is found again."""
        for name, known in self.recording.constants.items():
            if known is value:
                return self.graph.get_attr(name)
        name = f"constant_{len(self.recording.constants)}"
        self.recording.constants[name] = value
        self.ledger.keep(value)
        return self.graph.get_attr(name)

    def _as_nodes(self, arguments: Any, versions: dict[int, int]) -> Any:
        def change(value: Any) -> Any:
            if isinstance(value, Tensor):
                return self.node_of(value, versions.get(id(value), version_of(value)))
            return value

        return self._with_constants(replace(arguments, change))

    def _with_constants(self, value: Any) -> Any:
        """Arguments that have no way to be written in Python code are kept as attributes of the head."""
        if isinstance(value, SizeNumber):
            return plain(value)
        if isinstance(value, bool) or type(value) in _PLAIN or isinstance(value, fx.Node):
            return value
        if isinstance(value, slice):
            return slice(*(self._with_constants(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, torch.Size) or type(value) is tuple:
            return tuple(self._with_constants(part) for part in value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            kind: Any = type(value)
            return kind(*map(self._with_constants, cast("tuple[Any, ...]", value)))
        if type(value) is list:
            return [self._with_constants(part) for part in value]
        if type(value) is dict:
            return {key: self._with_constants(part) for key, part in value.items()}
        return self._constant(value)

    # Memory written in place

    def _make_writable(self, tensor: Tensor, version: int) -> None:
        """A frozen tensor is written by a trainable call: inside the head it must be a copy."""
        if id(tensor) in self.ledger.nodes or self.ledger.name_of_attribute(tensor) is not None:
            return
        if not self.ledger.has_tainted_memory(tensor):
            base = self._base_of(tensor)
            self._copy(base, version)
            self.ledger.taint_memory(tensor)
        if id(tensor) not in self.ledger.nodes:
            self._view_again(tensor)

    def _base_of(self, tensor: Tensor) -> Tensor:
        """The tensor whose whole memory the others view: only it can be copied without losing the sharing."""
        while (origin := self.ledger.origins.get(id(tensor))) and origin.producer:
            arguments = tensors_in((origin.producer.args, origin.producer.kwargs))
            source = next((other for other in arguments if other is not tensor and _shares(other, tensor)), None)
            if source is None:
                break
            tensor = source
        return tensor

    def _copy(self, tensor: Tensor, version: int) -> None:
        """Memory that a factory has just filled is made again instead of stored: it is the same for every sample."""
        origin = self.ledger.origins.get(id(tensor))
        producer = origin.producer if origin else None
        if producer and is_factory(producer.func) and not self.ledger.is_written(tensor):
            node = self._call_again(producer)
        else:
            node = self.graph.call_function(copied, (self._frozen_node(tensor, version),))
        self.ledger.taint(tensor, node)

    def _view_again(self, tensor: Tensor) -> fx.Node:
        """A frozen view of memory that the head writes: the head takes the same view of its own copy."""
        origin = self.ledger.origins.get(id(tensor))
        if origin is None or origin.producer is None:
            raise UnknownValue
        node = self._call_again(origin.producer)
        self.ledger.taint(tensor, node)
        return node

    def _call_again(self, producer: Producer) -> fx.Node:
        op, target, args = as_node(producer.func, producer.args, producer.kwargs)
        args, kwargs = self._as_nodes((args, producer.kwargs), {})
        return self._part(self.graph.create_node(op, target, args, kwargs), producer.path)

    # Results

    def _remember(self, node: fx.Node, result: Any, written: list[Tensor], noise: Any) -> None:
        for path, tensor in tensor_paths(result):
            # A call that returns its own argument (dropout in evaluation) makes no value.
            is_passed_through = id(tensor) in self.ledger.origins and not any(tensor is other for other in written)
            if is_passed_through and not tensor.requires_grad:
                continue
            if id(tensor) in self.ledger.attributes:
                continue
            self.ledger.taint(tensor, self._part(node, path), noise)
        for tensor in written:
            # Noise that something else was written into is no noise any more.
            if id(tensor) in self.ledger.nodes and noise is None:
                self.ledger.noise.pop(id(tensor), None)
            elif id(tensor) in self.ledger.nodes:
                self.ledger.noise[id(tensor)] = noise

    def _part(self, node: fx.Node, path: Path) -> fx.Node:
        for step in path:
            take = getattr if step.is_attribute else operator.getitem
            node = self.graph.call_function(take, (node, step.key))
        return node

    def _inherited_noise(self, arguments: Any, noise: Any, module: nn.Module | None) -> Any:
        """The noise that a call's results stand for, or None if something trainable feeds it as well."""
        if noise is not None:
            return noise
        if module is not None and any(parameter.requires_grad for parameter in module.parameters()):
            return None  # its own weights are no arguments of the call
        tainted = [tensor for tensor in tensors_in(arguments) if self.ledger.is_tainted(tensor)]
        sources = [self.ledger.noise.get(id(tensor)) for tensor in tainted]
        return sources[0] if sources and all(source is not None for source in sources) else None

    # Regions

    def _follow_region(self) -> None:
        region = current_region()
        if region != self._region:
            self._region = region
            self._write_region(region)

    def _write_region(self, region: Region) -> None:
        if self._caller is None:  # asked once, before the first call: later calls run in regions of the graph itself
            with self.graph.inserting_before(self._first_call()):
                self._caller = self.graph.call_function(current_region)
        change = self._constant(region.relative_to(self._ambient))
        self.graph.call_function(enter_region, (self._caller, change))


def _shares(one: Tensor, other: Tensor) -> bool:
    return storage_of(one) == storage_of(other)
