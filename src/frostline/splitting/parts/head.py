"""The trainable part as a module that reads through the model's own submodules, parameters and buffers."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from frostline.core.errors import NotCacheable, SplitError
from frostline.splitting.calls.containers import filled
from frostline.splitting.calls.grad_and_autocast import kept_region
from frostline.splitting.parts.frontier import Layout, from_rows
from frostline.splitting.python_state.kept_state import watched_places
from frostline.splitting.python_state.module_tables import ModuleTables, changed_model_error
from frostline.splitting.python_state.places import Place
from frostline.splitting.python_state.python_values import has_state
from frostline.splitting.recording.left_values import LeftValue, leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.splitting.parts.frontier import Frontier
    from frostline.splitting.recording.recording import Recording


# Layers with names that a GraphModule or a Head has as attributes, such as `code` and `graph`, are read by another.
_PREFIX = "layer_named_"


@dataclass
class Link:
    """One parameter or buffer that the head reads directly, and the module of the model that owns it."""

    owner: nn.Module
    mirror: nn.Module
    leaf: str
    name: str
    seen: Tensor

    def follow(self) -> None:
        """Follow a buffer that was replaced on either side; a replaced parameter cannot be followed."""
        own, ours = _get(self.owner, self.leaf), _get(self.mirror, self.leaf)
        if own is ours:
            return
        if isinstance(self.seen, nn.Parameter):
            raise changed_model_error(self.name, "another Parameter under the same name")
        newest = own if ours is self.seen else ours
        if newest is None:
            raise changed_model_error(self.name, "nothing under that name")
        self.owner._buffers[self.leaf] = self.mirror._buffers[self.leaf] = self.seen = newest


@dataclass(frozen=True)
class WatchedTensor:
    """A tensor of the model whose value was handed to Python while recording."""

    tensor: Tensor
    name: str
    version: int

    def check(self) -> None:
        """Raise if the tensor was written since."""
        if self.tensor._version != self.version:
            raise changed_model_error(self.name, "a new value; the old one was handed to Python and stands in the head")


@dataclass(frozen=True)
class Program:
    """One mode of the head: its graph, the function made from it, and how to put the output together."""

    graph: fx.Graph
    forward: Any
    code: str
    template: Any
    rebound: tuple[str, ...]
    left: tuple[LeftValue, ...]
    asks_for_gradients: bool


class Own:
    """What ties a head to its model. A deep copy of the head alone is cut loose; together with the model it is not."""

    def __init__(self, links: list[Link], model: nn.Module | None) -> None:
        self.links, self.model = links, model
        self.watches: list[WatchedTensor] = []
        self.places: list[Place] = []
        self.tables: ModuleTables | None = None
        self.prove_size: Callable[[int], None] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Own:
        links = [
            Link(
                memo[id(link.owner)],
                copy.deepcopy(link.mirror, memo),
                link.leaf,
                link.name,
                memo[id(link.seen)],
            )
            for link in self.links
            if id(link.owner) in memo and id(link.seen) in memo
        ]
        return Own(links, memo.get(id(self.model)))


class Head(nn.Module):
    """The trainable part of a model: `head(*features)` returns what the model returns.

    It holds the model's own trainable submodules and parameters under their own names, so training it trains the
    model, and `state_dict()` keys are the model's. `head.training` chooses between the recording of `train()` and
    that of `eval()`.

    Attributes:
        code: The Python code of the current mode; `print(head.code)` is readable.
        graph: The `fx.Graph` of the current mode.
    """

    def __init__(self, own: Own, frontier: Frontier) -> None:
        super().__init__()
        self._own, self._frontier = own, frontier

    def __getattr__(self, name: str) -> Any:
        if name.startswith(_PREFIX):
            own = name.removeprefix(_PREFIX)
            for table in (self._modules, self._parameters, self._buffers):
                if own in table:
                    return table[own]
        return super().__getattr__(name)

    def prove_sizes_with(self, prove_size: Callable[[int], None]) -> None:
        """Ask for a proof at every batch size that is met for the first time."""
        self._own.prove_size = prove_size

    def check_modules(self) -> None:
        """Raise a SplitError if a module was replaced since the split, or got another forward or a hook."""
        if self._own.tables is not None:
            self._own.tables.check()

    def set_programs(self, evaluated: Program, trained: Program) -> None:
        """The two modes; they are made after the attributes that they read."""
        self._programs = (evaluated, trained)

    @property
    def code(self) -> str:
        """The Python code of the current mode."""
        return self._program.code

    @property
    def graph(self) -> fx.Graph:
        """The graph of the current mode."""
        return self._program.graph

    @property
    def _program(self) -> Program:
        return self._programs[int(self.training)]

    def forward(self, *features: Tensor) -> Any:
        """Run the trainable part.

        Args:
            features: One tensor per frontier entry, as `extract` and the cached loader give them:
                (B, *shape), or the whole tensor for a shared one.

        Returns:
            What the model returns.

        Raises:
            SplitError: If the features do not fit the frontier, or the model was changed under the head.
        """
        if self._own.prove_size is not None:
            self._own.prove_size(self._batch_size(features))
        return self.recorded(*features)

    def recorded(self, *features: Tensor) -> Any:
        """The trainable part as it was recorded, whatever the batch size."""
        self._check(features)
        program = self._program
        if program.asks_for_gradients and torch.is_grad_enabled():  # reentrant checkpoints give none without
            features = tuple(f.detach().requires_grad_(f.is_floating_point()) for f in features)
        try:
            with kept_region():
                outputs, rebound, left = program.forward(self, *features)
        except RuntimeError as error:
            raise _failed(error) from error
        for name, value in zip(program.rebound, rebound, strict=True):
            self._rebind(name, value)
        if self._own.model is not None:
            leave(self._own.model, program.left, left)
        return filled(program.template, outputs)

    def _check(self, features: tuple[Tensor, ...]) -> None:
        entries = self._frontier.entries
        if len(features) != len(entries):
            raise SplitError(
                what="The head was called with another number of features than the frontier has.",
                where="split.head",
                received=f"{len(features)} tensors; the frontier has {len(entries)}",
                do="call split.head(*features) with the tuple that split.extract or the cached loader gives.",
            )
        for feature, entry in zip(features, entries, strict=True):
            shape = feature.shape if entry.tensor.shared else feature.shape[1:]
            if tuple(shape) != entry.tensor.shape:
                raise SplitError(
                    what=f"The feature {entry.tensor.name!r} has another shape than the frontier.",
                    where=f"split.head, {entry.tensor.name}",
                    received=f"{tuple(feature.shape)}; expected {'' if entry.tensor.shared else 'B x '}"
                    f"{entry.tensor.shape}",
                    do="pass the features of this split, in the order of split.frontier; or split again.",
                )
        for link in self._own.links:
            link.follow()
        for watch in self._own.watches:
            watch.check()
        for place in self._own.places:
            if place.has_changed():
                if isinstance(place.value, torch.Generator):
                    raise _moved(place)
                raise changed_model_error(place.name, f"{place.value!r} when the model was split, {place.now()!r} now")

    def _batch_size(self, features: tuple[Tensor, ...]) -> int:
        entries = self._frontier.entries
        rows = (feature for feature, entry in zip(features, entries, strict=False) if not entry.tensor.shared)
        return next((len(feature) for feature in rows if feature.dim()), 0)

    def train(self, mode: bool = True) -> Head:
        """Set the mode as the model's own `train` does, which may keep some layers in another one."""
        if self._own.model is not None:
            self._own.model.train(mode)
        else:
            super().train(mode)
        self.training = mode
        return self

    def _rebind(self, name: str, value: Tensor) -> None:
        owner_name, _, leaf = name.rpartition(".")
        mirror = self.get_submodule(owner_name)
        mirror._buffers[leaf] = value
        for link in self._own.links:
            if link.name == name:
                link.follow()


_TAKEN = frozenset([*dir(fx.GraphModule), *dir(Head)])


def build_head(model: nn.Module, evaluated: Recording, trained: Recording, graphs: tuple[fx.Graph, fx.Graph],
               frontier: Frontier, *, has_queues: bool = True) -> Head:  # fmt: skip
    """The head of a model from the recordings of both modes.

    Args:
        model: The model.
        evaluated: The recording in `eval()`.
        trained: The recording as `train()` leaves the model.
        graphs: The finished graphs of the two, in this order.
        frontier: The frontier that both read.
        has_queues: Watch queues, sets and iterators too; False where the head itself moves them.
    """
    own = Own([], model)
    head = Head(own, frontier)
    recordings = (evaluated, trained)
    for recording in recordings:
        _mount(head, model, recording, own)
    programs = [_program(head, recording, graph) for recording, graph in zip(recordings, graphs, strict=True)]
    head.set_programs(programs[0], programs[1])
    _watch(own, recordings, has_queues=has_queues)
    followed = set(evaluated.modules).intersection(trained.modules)
    own.tables = ModuleTables(model, followed, has_own_forward="own_forward" in trained.constants)
    object.__setattr__(head, "training", model.training)
    return head


def assemble(recording: Recording, batch: fx.Node | None, frontier: Frontier, slots: tuple[int, ...]) -> fx.Graph:
    """The recorded graph with one placeholder per frontier entry, each brought into the model's own layout."""
    graph = fx.Graph()
    placeholders = [graph.placeholder(_identifier(at, entry.tensor.name)) for at, entry in enumerate(frontier.entries)]
    rows = {crossing.node: placeholders[slot] for crossing, slot in zip(recording.crossings, slots, strict=True)}
    mapping: dict[fx.Node, fx.Node] = {}
    for node in recording.graph.nodes:
        if node.op == "placeholder":
            layout = frontier.entries[placeholders.index(rows[node])].layout
            mapping[node] = rows[node] if layout.is_plain else _brought_back(graph, recording, rows[node], layout)
    for node in recording.graph.nodes:
        if node.op != "placeholder":
            table = rows if node is batch else mapping
            mapping[node] = graph.node_copy(node, table.__getitem__)
    return graph


def _brought_back(graph: fx.Graph, recording: Recording, rows: fx.Node, layout: Layout) -> fx.Node:
    name = f"layout_{len(recording.constants)}"
    recording.constants[name] = layout
    return graph.call_function(from_rows, (rows, graph.get_attr(name)))


def _mount(head: Head, model: nn.Module, recording: Recording, own: Own) -> None:
    for name in sorted(recording.modules, key=lambda name: name.count(".")):
        mirror, leaf, is_own = _container(head, model, name)
        if not is_own:
            mirror._modules[leaf] = recording.modules[name]
    for name, tensor in recording.attributes.items():
        mirror, leaf, is_own = _container(head, model, name)
        if is_own or leaf in mirror._parameters or leaf in mirror._buffers:
            continue
        owner = model.get_submodule(name.rpartition(".")[0])
        if isinstance(tensor, nn.Parameter):
            mirror.register_parameter(leaf, tensor)
        else:
            mirror.register_buffer(leaf, tensor, persistent=leaf not in owner._non_persistent_buffers_set)
        own.links.append(Link(owner, mirror, leaf, name, tensor))


def _container(head: Head, model: nn.Module, name: str) -> tuple[nn.Module, str, bool]:
    """(module of the head that stands for the owner, leaf, True if that module is the model's own)."""
    path, _, leaf = name.rpartition(".")
    mirror: nn.Module = head
    real: nn.Module = model
    for part in path.split(".") if path else ():
        real = real.get_submodule(part)
        if part not in mirror._modules:
            mirror._modules[part] = nn.Module()
        mirror = mirror.get_submodule(part)
    return mirror, leaf, mirror is real


def _program(head: Head, recording: Recording, graph: fx.Graph) -> Program:
    mode = "train" if recording.training else "eval"
    for name, value in recording.constants.items():
        object.__setattr__(head, f"{mode}_{name}", value)
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in recording.constants:
            node.target = f"{mode}_{node.target}"
        if node.op in ("get_attr", "call_module") and str(node.target).partition(".")[0] in _TAKEN:
            node.target = f"{_PREFIX}{node.target}"
    targets = {str(node.target): _find(head, str(node.target)) for node in graph.nodes
               if node.op in ("get_attr", "call_module")}  # fmt: skip
    compiled = fx.GraphModule(dict(targets), graph, class_name="Head")
    return Program(
        graph, type(compiled).forward, compiled.code, recording.output, tuple(recording.rebound), tuple(recording.left),
        recording.asks_for_gradients,
    )  # fmt: skip


def _find(head: Head, target: str) -> Any:
    value: Any = head
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _watch(own: Own, recordings: tuple[Recording, ...], *, has_queues: bool) -> None:
    entered = {name: module for recording in recordings for name, module in recording.entered.items()}
    sources = {key: source for recording in recordings for key, source in recording.sources.items()}
    left = {place for recording in recordings for own in recording.left for place in own.places()}
    places = watched_places(entered, sources.values(), left)
    own.places = [place for place in places if has_queues or not has_state(place.value)]
    for recording in recordings:
        for tensor, name in recording.steered_by:
            own.watches.append(WatchedTensor(tensor, name, tensor._version))


def _identifier(at: int, name: str) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    return f"f{at}_{plain}"


def _get(module: nn.Module, leaf: str) -> Tensor | None:
    return module._parameters.get(leaf, module._buffers.get(leaf))


def _failed(error: RuntimeError) -> Exception:
    """An error that the model may catch, where the head cannot; running out of memory is told as it is."""
    if isinstance(error, torch.OutOfMemoryError):
        return error
    return SplitError(
        what="The trainable part fails on these features.",
        where="split.head",
        received=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}",
        do="call the model itself on the same inputs: if it fails too, mend it there; if it catches this error, train "
        "with frostline.fit(..., cache=False).",
    )


def _moved(place: Place) -> NotCacheable:
    return NotCacheable(
        what=f"The model draws from a generator of its own, {place.name!r}, which no head can follow.",
        where=place.name,
        received="a torch.Generator in another state than when the model was split",
        do="draw from torch's own generator (torch.manual_seed); or train with frostline.fit(..., cache=False).",
    )
