"""How values flow between the layers of a module: from its own code, where that can be traced; else from containers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from torch import fx, nn

from frostline.porting.units import LAYERS, RECURRENT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.units import TargetUnit

Edges = dict[str, set[str]]  # of a unit: the units whose outputs reach it with no other unit in between


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*LAYERS, *RECURRENT, nn.MultiheadAttention)) or super().is_leaf_module(
            m, module_qualified_name
        )


def flow(model: nn.Module, units: Sequence[TargetUnit]) -> Edges | None:
    """Which units feed which.

    Args:
        model: The module; it is not run.
        units: Its units.

    Returns:
        For each unit the units before it; None if the module's forward cannot be traced.
    """
    owners: dict[str, list[str]] = {}
    for unit in units:
        owners.setdefault(unit.owner, []).append(unit.name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(model)
    except Exception:  # a forward may raise anything where it is given stand-ins for tensors
        return None
    return contracted(_nodes(graph, owners, {unit.name for unit in units}))


def _nodes(graph: fx.Graph, owners: Mapping[str, list[str]], names: set[str]) -> list[tuple[list[str], list[int]]]:
    """Per node in order: the units that it is (several for the layers of a recurrent one), and its inputs."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    found: list[tuple[list[str], list[int]]] = []
    for node in graph.nodes:
        target = str(node.target)
        own = owners.get(target, []) if node.op == "call_module" else []
        if node.op == "get_attr":
            own = [target] if target in names else owners.get(target.rpartition(".")[0], [])
        found.append((own, [order[one] for one in node.all_input_nodes]))
    return found


def contracted(nodes: Sequence[tuple[list[str], list[int]]]) -> Edges:
    """The flow between units alone, from a graph in an order in which it can be computed.

    Args:
        nodes: For each node the units that it is, one after the other, and the nodes whose outputs it takes.
    """
    edges: Edges = {}
    reached: list[set[str]] = []
    for own, inputs in nodes:
        before = set[str]().union(*(reached[index] for index in inputs)) if inputs else set[str]()
        for name in own:
            edges.setdefault(name, set()).update(before - {name})
            before = {name}
        reached.append(before)
    return edges


def is_before(edges: Edges, first: str, second: str) -> bool:
    """Whether values flow from one unit to the other, on whatever way."""
    waiting, seen = list(edges.get(second, ())), set[str]()
    while waiting:
        name = waiting.pop()
        if name == first:
            return True
        if name not in seen:
            seen.add(name)
            waiting += edges.get(name, ())
    return False


def is_before_in_containers(model: nn.Module, first: str, second: str) -> bool:
    """Whether both lie in one `Sequential` or `ModuleList`, the one in an earlier entry than the other."""
    parts, others = first.split("."), second.split(".")
    shared = 0
    while shared < min(len(parts), len(others)) - 1 and parts[shared] == others[shared]:
        shared += 1
    if parts[shared] == others[shared]:
        return False
    holder = model.get_submodule(".".join(parts[:shared]))
    if not isinstance(holder, (nn.Sequential, nn.ModuleList)):
        return False
    entries = list(holder._modules)
    return entries.index(parts[shared]) < entries.index(others[shared])
