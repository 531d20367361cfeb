"""What ties a head to its model: tensors that both hold, and values of the model that stand in the head's graphs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from frostline.core.errors import NotCacheable
from frostline.splitting.python_state.module_tables import ModuleTables, changed_model_error

if TYPE_CHECKING:
    from frostline.core.given_rows import GivenRows
    from frostline.splitting.python_state.places import Place
    from frostline.splitting.recording.changes import LeftValue


@dataclass
class BoundTensor:
    """A parameter or buffer that the head reads directly: a module of the model and one of the head hold it.

    Attributes:
        owner: The module of the model.
        mirror: The module of the head that stands for it.
        leaf: The name in both.
        name: The qualified name in the model.
        seen: The tensor that both held last.
    """

    owner: nn.Module
    mirror: nn.Module
    leaf: str
    name: str
    seen: Tensor

    def follow(self) -> None:
        """Give both modules the newest buffer; a parameter that was replaced is refused.

        Raises:
            SplitError: If the model holds another Parameter, or none.
        """
        own, ours = _held(self.owner, self.leaf), _held(self.mirror, self.leaf)
        if own is ours:
            return
        if isinstance(self.seen, nn.Parameter):
            raise changed_model_error(self.name, "another Parameter under the same name")
        newest = own if ours is self.seen else ours
        if newest is None:
            raise changed_model_error(self.name, "nothing under that name")
        self.owner._buffers[self.leaf] = self.mirror._buffers[self.leaf] = self.seen = newest


@dataclass(frozen=True)
class ReadTensor:
    """A tensor of the model whose value Python read in the recording, so that it stands in the head as a number."""

    tensor: Tensor
    name: str
    version: int

    def check(self) -> None:
        """Raise a SplitError if the tensor was written since."""
        if self.tensor._version != self.version:
            raise changed_model_error(self.name, "a new value; the old one was handed to Python and stands in the head")


@dataclass(frozen=True)
class ModeGraph:
    """One mode of a head.

    Attributes:
        graph: The calls.
        template: The model's output, with a slot for each tensor.
        rebound: Buffers that the model's forward replaces, by qualified name.
        left: Attributes in which the model's forward leaves values.
        asks_for_gradients: True if forward asks frozen values for gradients, as reentrant checkpoints do.
    """

    graph: fx.Graph
    template: Any
    rebound: tuple[str, ...]
    left: tuple[LeftValue, ...]
    asks_for_gradients: bool

    @cached_property
    def _compiled(self) -> type[fx.GraphModule]:
        # It is the function alone that is used, so that anything may stand where the graph names a layer or a tensor.
        names = {str(node.target): nn.Module() for node in self.graph.nodes if node.op in ("get_attr", "call_module")}
        return type(fx.GraphModule(dict(names), self.graph, class_name="Head"))

    @property
    def forward(self) -> Callable[..., Any]:
        """The function made from the graph; it takes the head and the features."""
        return self._compiled.forward

    @property
    def code(self) -> str:
        """The same as text."""
        return self.graph.python_code("self").src

    def __getstate__(self) -> dict[str, Any]:
        # The compiled function has no name that a pickle could hold; a graph links its nodes, each one level deeper.
        kept = {name: value for name, value in vars(self).items() if name != "_compiled"}
        return {**kept, "graph": _rows(self.graph)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, graph=_graph(state["graph"]))


@dataclass(frozen=True)
class _Result:
    """Stands for a node among the arguments of another one."""

    at: int


def _rows(graph: fx.Graph) -> list[tuple[Any, ...]]:
    """The nodes one by one, as `fx.Graph.create_node` takes them."""
    places = {node: _Result(at) for at, node in enumerate(graph.nodes)}

    def place_of(argument: Any) -> Any:
        return places[argument] if isinstance(argument, fx.Node) else argument

    return [
        (node.op, node.target, *(map_aggregate(own, place_of) for own in (node.args, node.kwargs)), node.name)
        for node in graph.nodes
    ]


def _graph(rows: Sequence[tuple[Any, ...]]) -> fx.Graph:
    made, nodes = fx.Graph(), list[fx.Node]()

    def node_of(argument: Any) -> Any:
        return nodes[argument.at] if isinstance(argument, _Result) else argument

    for op, target, args, kwargs, name in rows:
        given = (map_aggregate(own, node_of) for own in (args, kwargs))
        nodes.append(made.create_node(op, target, *given, name=name))
    return made


class ModelBinding:
    """All that ties one head to its model.

    A deep copy of the model and its head together, and a head that was pickled with its model, are bound in the same
    way, but neither watch for changes nor ask for proofs. A deep copy of the head alone is not bound to any model.

    Args:
        model: The model; None for a copy without it.
        tensors: Tensors that both hold.
        read: Tensors whose values stand in the head.
        places: Other values of the model that stand in the head.
        tables: What the modules of the model are made of.
    """

    def __init__(
        self, model: nn.Module | None, tensors: Iterable[BoundTensor], *, read: Sequence[ReadTensor] = (),
        places: Sequence[Place] = (), tables: ModuleTables | None = None,
    ) -> None:  # fmt: skip
        self.model, self.tensors = model, list(tensors)
        self._read, self._places, self._tables = read, places, tables
        self.prove_size: Callable[[int], None] | None = None
        self.given: GivenRows | None = None  # by loaders of the features; a copy has none

    def check(self) -> None:
        """Follow replaced buffers, and check that the head still is made from this model.

        Raises:
            SplitError: If something of the model that stands in the head has changed.
            NotCacheable: If a generator of the model's own has moved.
        """
        for tensor in self.tensors:
            tensor.follow()
        for tensor in self._read:
            tensor.check()
        for place in self._places:
            if place.has_changed():
                if isinstance(place.value, torch.Generator):
                    raise _moved_generator_error(place)
                raise changed_model_error(place.name, f"{place.value!r} when the model was split, {place.now()!r} now")

    def trains_beside(self, head: nn.Module) -> set[str]:
        """Names of parameters of the model that train, and that the head does not hold."""
        own = {id(parameter) for parameter in head.parameters()}
        named = self.model.named_parameters() if self.model is not None else ()
        return {name for name, parameter in named if parameter.requires_grad and id(parameter) not in own}

    def check_modules(self) -> None:
        """Raise a SplitError if a module was replaced, or got another forward or a hook."""
        if self._tables is not None:
            self._tables.check()

    def __getstate__(self) -> dict[str, Any]:
        return vars(ModelBinding(self.model, self.tensors))

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelBinding:
        tensors = [
            BoundTensor(
                memo[id(one.owner)], copy.deepcopy(one.mirror, memo), one.leaf, one.name, memo[id(one.seen)]
            )
            for one in self.tensors
            if id(one.owner) in memo and id(one.seen) in memo
        ]  # fmt: skip
        return ModelBinding(memo.get(id(self.model)), tensors)


def _held(module: nn.Module, leaf: str) -> Tensor | None:
    return module._parameters.get(leaf, module._buffers.get(leaf))


def _moved_generator_error(place: Place) -> NotCacheable:
    return NotCacheable(
        what=f"The model draws from a generator of its own, {place.name!r}, which no head can follow.",
        where=place.name,
        received="a torch.Generator in another state than when the model was split",
        do="draw from torch's own generator (torch.manual_seed); or train with frostline.fit(..., cache=False).",
    )
