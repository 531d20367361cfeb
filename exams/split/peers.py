"""What there is without this library: a graph of the model, by `torch.fx` or `torch.export`, cut at the frost line.

The graph is cut by the rule that the library uses, and as kindly as it can be: a node belongs to the head if it reads a
trainable weight or another node of the head. Peers are judged in evaluation mode only, where a graph has no noise.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from .judging import BATCH, CRASHED, EQUAL, EXACT, REFUSED, WRONG, Verdict, call, difference, move, run

if TYPE_CHECKING:
    from .cases import Case

FX, EXPORT = "torch.fx", "torch.export"
PEERS = (FX, EXPORT)


@dataclass
class Peer:
    """A graph of a model that was made once, or why there is none.

    Attributes:
        graph: Its module; None if the model has no graph.
        why: What the tracer said.
    """

    graph: fx.GraphModule | None
    why: str = ""


def traced(case: Case, kind: str) -> Peer:
    """The graph of a model."""
    model = case.build().eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _symbolic(model, case) if kind == FX else _exported(model, case)
    except Exception as error:
        return Peer(None, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:160])
    return Peer(graph)


def _symbolic(model: nn.Module, case: Case) -> fx.GraphModule:
    example = case.example(4, 1)
    absent = {}
    if isinstance(example, dict):  # what is not passed is fixed to its default, or no transformer could be traced
        signature = inspect.signature(model.forward)
        absent = {name: own.default for name, own in signature.parameters.items()
                  if name not in example and own.default is not inspect.Parameter.empty}  # fmt: skip
    return fx.symbolic_trace(model, concrete_args=absent or None)


def _exported(model: nn.Module, case: Case) -> fx.GraphModule:
    example = case.example(4, 1)
    args = () if isinstance(example, dict) else example if isinstance(example, tuple) else (example,)
    kwargs = example if isinstance(example, dict) else {}
    axes = [{0: torch.export.Dim.AUTO} if isinstance(own, Tensor) and own.dim() else None
            for own in (*args, *kwargs.values())]  # fmt: skip
    shapes = dict(zip(kwargs, axes, strict=True)) if kwargs else tuple(axes)
    return torch.export.export(model, args, kwargs, dynamic_shapes=shapes).module()


def judge_peer(case: Case, cut: str, peer: Peer) -> Verdict:
    """The verdict of a graph at one cut."""
    if peer.graph is None:
        return Verdict(REFUSED, peer.why)
    reference, _ = case.frozen(cut)
    reference.eval()
    batch = case.example(BATCH, 2)
    weights, begun = dict(reference.named_parameters()), case_weights(case)
    with torch.no_grad():
        for name, own in peer.graph.named_parameters():
            if name in weights:
                own.copy_(begun[name])
                own.requires_grad_(weights[name].requires_grad)
    for own in peer.graph.parameters():
        own.grad = None
    try:
        cutter = _Cutter(peer.graph)
        features = cutter.extract(batch)
        move(reference)
        with torch.no_grad():
            for name, own in peer.graph.named_parameters():
                if name in weights:
                    own.copy_(weights[name])
        expected = run(reference, lambda: call(reference, batch))
        found = run(peer.graph, lambda: cutter.head(features))
        own, what = _worst(found, expected)
    except Exception as error:
        return Verdict(CRASHED, f"{type(error).__name__}: {error}"[:160])
    if own > 1.0:
        return Verdict(WRONG, f"{what}: {own:.1e} of what is allowed")
    return Verdict(EXACT if own == 0.0 else EQUAL)


def _worst(found: Any, expected: Any) -> tuple[float, str]:
    """Outputs are compared in their order, since a graph may return them in another container."""
    from .judging import Run

    ours = Run({str(at): own for at, own in enumerate(found.outputs.values())}, found.gradients)
    theirs = Run({str(at): own for at, own in enumerate(expected.outputs.values())}, expected.gradients)
    return difference(ours, theirs)


class _Cutter:
    """The two halves of a graph."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self.graph = graph
        self.of_head: set[fx.Node] = set()
        for node in graph.graph.nodes:
            if self._is_trainable(node) or any(own in self.of_head for own in node.all_input_nodes):
                self.of_head.add(node)
        read = {own for node in self.of_head for own in node.all_input_nodes}
        self.frontier = [node for node in graph.graph.nodes if node in read and node not in self.of_head]

    def _is_trainable(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(own.requires_grad for own in self.graph.get_submodule(node.target).parameters())
        if node.op == "get_attr":
            own: Any = self.graph
            for part in node.target.split("."):
                own = getattr(own, part)
            return isinstance(own, Tensor) and own.requires_grad
        return False

    @torch.no_grad()
    def extract(self, batch: Any) -> dict[fx.Node, Any]:
        """The values that the head reads."""
        given = [*batch.values()] if isinstance(batch, dict) else [*batch] if isinstance(batch, tuple) else [batch]
        names = [node for node in self.graph.graph.nodes if node.op == "placeholder"]
        if isinstance(batch, dict):
            by_name = {node: batch[str(node.target)] for node in names if str(node.target) in batch}
            values = {node: by_name.get(node) for node in names}
        else:
            values = dict(zip(names, [*given, *[None] * len(names)], strict=False))
        interpreter = fx.Interpreter(self.graph)
        interpreter.env = dict(values)
        for node in self.graph.graph.nodes:
            if node.op not in ("placeholder", "output") and node not in self.of_head:
                interpreter.env[node] = interpreter.run_node(node)
        return {node: interpreter.env[node] for node in self.frontier}

    def head(self, features: dict[fx.Node, Any]) -> Any:
        """The rest of the graph."""
        interpreter = fx.Interpreter(self.graph)
        interpreter.env = dict(features)
        for node in self.graph.graph.nodes:
            if node in self.of_head:
                interpreter.env[node] = interpreter.run_node(node)
                if node.op == "output":
                    return interpreter.env[node]
        return ()


def case_weights(case: Case) -> dict[str, Tensor]:
    """The weights of a new model, by name."""
    return {name: own.detach() for name, own in case.build().named_parameters()}
