"""Recurrent weights whose gates the graph reorders at run time, in contrast to weights that are stored reordered.

The exporter of PyTorch writes `LSTM(Unsqueeze(Concat(Slice(weight), ...)))`, and evaluates that for small weights. If
it evaluated only some of the weights of a node, the others are reordered here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from frostline.porting.readers.onnx_node import Constant, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_LEAVES = {1: "W", 2: "R", 3: "B"}
_KINDS = frozenset({"LSTM", "GRU", "RNN"})
_PARAMETER = re.compile(r"(|.+\.)(?:weight|bias)_(?:ih|hh)(_l\d+)(?:_reverse)?")
_MOST_STEPS = 64  # nodes that compute one weight; a bidirectional LSTM needs 13


def joined(nodes: list[Node], made: Mapping[str, Node], constants: Mapping[str, Constant]) -> list[Node]:
    """The nodes; recurrent ones take reordered weights instead of the nodes that reorder them.

    Args:
        nodes: All nodes in topological order; recurrent ones are changed in place.
        made: For each value of the outermost graph, the node that computes it.
        constants: The constants of the outermost graph, by name.
    """
    owners = {constant.name: node for node in nodes for constant, _ in node.owned}
    spent: dict[int, Node] = {}
    for node in nodes:
        if node.kind not in _KINDS or not any(made.get(value) is node for value in node.config["output"]):
            continue
        slots = {slot: value for slot, value in enumerate(node.inputs[:4]) if slot in _LEAVES and value}
        if not any(value in constants for value in slots.values()):
            continue
        parts = {slot: _part(value, made, constants) for slot, value in slots.items() if value in made}
        steps = {id(step): step for part in parts.values() if part is not None for step in part.nodes}
        whole = {slot: part for slot, part in parts.items() if part is not None and _is_own(part, owners, steps)}
        if whole and len(whole) == len(parts):
            _take(node, whole)
            spent |= steps
    return _without(nodes, spent) if spent else nodes


@dataclass
class _Part:
    """The constants from which one weight is assembled, and the nodes that assemble it."""

    value: str
    made: Mapping[str, Node]
    constants: Mapping[str, Constant]
    used: dict[str, Constant] = field(default_factory=dict[str, Constant])
    nodes: list[Node] = field(default_factory=list[Node])
    steps: int = 0

    @property
    def name(self) -> str:
        return " + ".join(one.name for one in self.used.values())

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.rows().shape[:2], *next(iter(self.used.values())).tensor.shape[1:])

    def rows(self) -> Tensor:
        """The indices of the rows of all constants, in the order in which the graph arranges them."""
        ranges: dict[str, Tensor] = {}
        for name, one in self.used.items():
            first = sum(item.shape[0] for item in ranges.values())
            shape = (one.tensor.shape[0], *[1 for _ in one.tensor.shape[1:]])
            ranges[name] = torch.arange(first, first + one.tensor.shape[0]).reshape(shape)
        return self.arranged(lambda constant: ranges[constant.name])

    def arranged(self, read: Callable[[Constant], Tensor]) -> Tensor:
        """The value that the graph computes from the constants, which `read` returns."""
        self.nodes.clear()
        self.steps = 0
        return _arranged(self.value, self, read)


def _part(value: str, made: Mapping[str, Node], constants: Mapping[str, Constant]) -> _Part | None:
    """The parts of a weight, if it contains every row of some constants exactly once; otherwise None."""
    part = _Part(value, made, constants)
    try:
        part.arranged(partial(_noted, part))
        used = list(part.used.values())
        rows = part.rows()
    except (ValueError, RuntimeError, IndexError):
        return None
    is_alike = len({(one.tensor.dtype, one.tensor.shape[1:]) for one in used}) == 1
    is_stacked = bool(used) and rows.ndim == len(used[0].tensor.shape) + 1
    is_whole = rows.flatten().sort().values.equal(torch.arange(sum(one.tensor.shape[0] for one in used)))
    return part if is_alike and is_stacked and is_whole else None


def _noted(part: _Part, constant: Constant) -> Tensor:
    if constant.perm or constant.load or not constant.is_float or not constant.tensor.shape:
        raise ValueError(constant.name)
    part.used[constant.name] = constant
    return torch.empty((constant.tensor.shape[0], *[1 for _ in constant.tensor.shape[1:]]), device="meta")


def _arranged(value: str, part: _Part, read: Callable[[Constant], Tensor]) -> Tensor:
    """Compute a value that consists of rows of constants.

    Raises:
        ValueError, RuntimeError, IndexError: If the value is computed in another way.
    """
    if value in part.constants:
        return read(part.constants[value])
    node = part.made.get(value)
    part.steps += 1
    if node is None or part.steps > _MOST_STEPS:
        raise ValueError(value)
    part.nodes.append(node)
    inner, *others = node.inputs
    if node.kind == "Slice" and inner in part.constants:  # a slice of a stored constant is not larger than the constant
        start, end, *along = (_whole(other, part) for other in others)
        if along not in ([], [0], [0, 1]):
            raise ValueError(value)
        return read(part.constants[inner])[start:end]
    if node.kind == "Unsqueeze" and (_whole(others[0], part) if others else node.config.get("axes")) in (0, [0]):
        return _arranged(inner, part, read).unsqueeze(0)
    if node.kind == "Concat" and node.config.get("axis") == 0:
        return torch.cat([_arranged(one, part, read) for one in node.inputs])
    raise ValueError(value)


def _whole(value: str, part: _Part) -> int:
    tensor = part.constants[value].tensor if value in part.constants else None
    if tensor is None or tensor.num_elements != 1 or not tensor.dtype.startswith("int"):
        raise ValueError(value)
    return int(tensor.load().item())


def _is_own(part: _Part, owners: Mapping[str, Node], steps: Mapping[int, Node]) -> bool:
    """Whether no other node owns the constants."""
    return all(name in owners and id(owners[name]) in steps for name in part.used)


def _take(node: Node, parts: Mapping[int, _Part]) -> None:
    """Assign the weights to a recurrent node, and remove them from the nodes that reorder them."""
    steps = [step for part in parts.values() for step in part.nodes]
    for slot, part in parts.items():
        node.config["input"][slot] = part.name
        tensor = next(iter(part.used.values())).tensor
        load = partial(part.arranged, lambda constant: constant.tensor.load())
        node.owned.append((Constant(part.name, tensor, load=load, shape=part.shape), _LEAVES[slot]))
    for step in steps:
        step.owned.clear()
    node.sources = [source for source in node.sources if all(source is not step for step in steps)]
    found = [_PARAMETER.fullmatch(name) for part in parts.values() for name in part.used]
    units = {f"{one[1][:-1]}/{one[2][1:]}".lstrip("/") if one is not None else "" for one in found}
    node.unit = units.pop() if len(units) == 1 else ""


def _without(nodes: list[Node], spent: Mapping[int, Node]) -> list[Node]:
    """The nodes without those whose outputs are no longer used."""
    needed: set[int] = set()
    kept: list[Node] = []
    for node in reversed(nodes):
        if id(node) not in spent or id(node) in needed:
            kept.append(node)
            needed |= {id(source) for source in node.sources}
    return kept[::-1]
