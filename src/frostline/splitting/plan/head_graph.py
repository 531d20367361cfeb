"""The graph of a head: recordings at two batch sizes become one graph whose integers follow the batch.

`generalise` rewrites the integers, `assemble` gives the graph one input for each frontier tensor.
"""

from __future__ import annotations

import operator
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from frostline.core.errors import SplitError
from frostline.splitting.calls.containers import is_same, replace
from frostline.splitting.parts.frontier import from_rows

if TYPE_CHECKING:
    from frostline.splitting.parts.frontier import Frontier, Layout
    from frostline.splitting.recording.run_record import Recording

NOT_GENERAL = "The trainable part has sizes or calls that cannot be generalised over the batch size."


def generalise(small: Recording, large: Recording, anchor: int | None) -> fx.Node | None:
    """Rewrite, in the graph of `large`, every integer that differs from `small` as linear in the batch size.

    Args:
        small: The recording at the smaller batch size.
        large: The recording at the larger one; its graph is changed in place.
        anchor: Which crossing gives the batch size: one that the head sees as rows of samples.

    Returns:
        The node that reads the batch size off the anchor, if one was needed.

    Raises:
        SplitError: If the two runs made different calls, or something other than sizes differs.
    """
    old, new = list(small.graph.nodes), list(large.graph.nodes)
    if len(old) != len(new) or [_kind(a) for a in old] != [_kind(b) for b in new]:
        at = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if _kind(a) != _kind(b)), len(old))
        where = new[min(at, len(new) - 1)]
        raise _not_general(where, "the model makes other calls for another batch size")
    numbers = {a: at for at, a in enumerate(old)} | {b: at for at, b in enumerate(new)}
    numbers_out = [_numbers_in(recording.output) for recording in (small, large)]
    if numbers_out[0] != numbers_out[1]:
        raise _not_general(new[-1], "the output holds a Python number that differs for another batch")
    rewriter = _Rewriter(small, large, numbers, anchor)
    for a, b in zip(old, new, strict=True):
        b.args = rewriter.rewritten(a.args, b.args, b)
        b.kwargs = rewriter.rewritten(a.kwargs, b.kwargs, b)
    return rewriter.batch


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


class _Rewriter:
    def __init__(self, small: Recording, large: Recording, numbers: dict[fx.Node, int], anchor: int | None) -> None:
        self.small, self.large, self.numbers, self.anchor = small, large, numbers, anchor
        self.graph = large.graph
        self.batch: fx.Node | None = None

    def rewritten(self, a: Any, b: Any, node: fx.Node) -> Any:
        if isinstance(b, fx.Node):
            if not isinstance(a, fx.Node) or self.numbers[a] != self.numbers[b]:
                raise _not_general(node, "the calls are connected in another way")
            self._compare_constants(a, b, node)
            return b
        if type(a) is not type(b):
            raise _not_general(node, f"{a!r} for {self.small.batch_size} samples, {b!r} for {self.large.batch_size}")
        if isinstance(b, (tuple, list)):
            if len(a) != len(b):
                raise _not_general(node, f"{a!r} for one batch size, {b!r} for another")
            parts = [self.rewritten(x, y, node) for x, y in zip(a, b, strict=True)]
            return type(b)(*parts) if hasattr(b, "_fields") else type(b)(parts)
        if isinstance(b, slice):
            return slice(*(self.rewritten(getattr(a, k), getattr(b, k), node) for k in ("start", "stop", "step")))
        if isinstance(b, dict):
            if list(a) != list(b):
                raise _not_general(node, f"{list(a)} for one batch size, {list(b)} for another")
            return {key: self.rewritten(a[key], b[key], node) for key in b}
        if a == b or (a != a and b != b):
            return b
        if isinstance(b, int) and not isinstance(b, bool):
            return self._linear(a, b, node)
        raise _not_general(node, f"{a!r} for {self.small.batch_size} samples, {b!r} for {self.large.batch_size}")

    def _compare_constants(self, a: fx.Node, b: fx.Node, node: fx.Node) -> None:
        if b.op != "get_attr":
            return
        if str(b.target) not in self.large.constants:
            if a.target != b.target:
                raise _not_general(node, f"{a.target} for one batch size, {b.target} for another")
            return
        old, new = self.small.constants.get(str(a.target)), self.large.constants[str(b.target)]
        if old is new or _is_same_memory(old, new):
            return
        if isinstance(new, Tensor):  # an unrecorded call made it, such as a scripted function
            raise _not_general(node, "a tensor whose origin no torch call, module or attribute tells")
        is_equal = type(old) is type(new) and (old == new or repr(old) == repr(new) or _is_same_code(old, new))
        if not is_equal:
            raise _not_general(node, f"{old!r} for one batch size, {new!r} for another")

    def _linear(self, a: int, b: int, node: fx.Node) -> Any:
        small, large = self.small.batch_size, self.large.batch_size
        rise, run = b - a, large - small
        batch = self._batch_node(node)
        slope = rise // run if rise % run == 0 else None
        with self.graph.inserting_before(node):
            if slope is None:  # half of the batch, for example; verified at a third size
                scaled = self.graph.call_function(operator.mul, (batch, rise))
                scaled = self.graph.call_function(operator.floordiv, (scaled, run))
                offset = b - large * rise // run
            else:
                scaled = batch if slope == 1 else self.graph.call_function(operator.mul, (batch, slope))
                offset = b - slope * large
            return scaled if offset == 0 else self.graph.call_function(operator.add, (scaled, offset))

    def _batch_node(self, node: fx.Node) -> fx.Node:
        if self.batch is None:
            if self.anchor is None:
                raise _not_general(node, "sizes follow the batch, but no stored tensor does")
            placeholder = self.large.crossings[self.anchor].node
            first = next(n for n in self.graph.nodes if n.op != "placeholder")
            with self.graph.inserting_before(first):
                self.batch = self.graph.call_method("size", (placeholder, 0))
        return self.batch


def _is_same_code(old: Any, new: Any) -> bool:
    """True for two functions made by the same line, such as a lambda in forward, that hold nothing."""
    return isinstance(new, FunctionType) and old.__code__ is new.__code__ and not new.__closure__


def _numbers_in(output: Any) -> list[int | float]:
    found: list[int | float] = []

    def take(number: int | float) -> int | float:
        found.append(number)
        return number

    replace(output, take, (int, float))
    return found


def _kind(node: fx.Node) -> tuple[str, Any]:
    return node.op, None if node.op in ("placeholder", "get_attr") else node.target


def _not_general(node: fx.Node, received: str) -> SplitError:
    return SplitError(
        what=NOT_GENERAL,
        where=f"{node.name} ({node.op} {getattr(node.target, '__name__', node.target)})",
        received=received,
        do="make the sizes follow the batch (a multiple of x.shape[0], or -1 in reshape), or freeze above that line.",
    )


def _is_same_memory(old: Any, new: Any) -> bool:
    """True for tensors over the same memory, such as that of an array that the model keeps."""
    is_both = isinstance(old, Tensor) and isinstance(new, Tensor)
    return is_both and is_same(old, new) and old.data_ptr() == new.data_ptr()


def _brought_back(graph: fx.Graph, recording: Recording, rows: fx.Node, layout: Layout) -> fx.Node:
    name = f"layout_{len(recording.constants)}"
    recording.constants[name] = layout
    return graph.call_function(from_rows, (rows, graph.get_attr(name)))


def _identifier(at: int, name: str) -> str:
    plain = "".join(letter if letter.isalnum() else "_" for letter in name)
    return f"f{at}_{plain}"
