"""Functions of an ONNX file and branches that are known: their nodes as if they stood in the graph that calls them.

References:
    ONNX, "Functions", https://onnx.ai/onnx/repo-docs/IR.html#functions
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from frostline.porting.readers.protobuf import Message
    from frostline.porting.readers.weight_file import WeightFile

_MOST = 50_000  # calls that come out of functions; a network of 1,000 layers has 5,000
_DEEPEST = 32  # functions that call each other
_REFERENCE, _NAME = 21, 1  # fields of an attribute: what of the call it stands for; its name


@dataclass(frozen=True)
class Call:
    """A node, with the names that its values have in the graph that it ends up in.

    Attributes:
        kind: Its operator.
        domain: Of its operator.
        name: As the file has it; may be empty.
        inputs: Names of values.
        outputs: Likewise.
        attributes: Its settings, by name.
        depth: In how many functions it stands.
        names: What values are called in its graphs, where they have other names around it.
    """

    kind: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Message], ...]
    depth: int = 0
    names: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, node: Message) -> Call:
        """A node as it stands in its graph."""
        return cls(
            node.text(4), node.text(7), node.text(3), tuple(node.texts(1)), tuple(node.texts(2)),
            tuple((one.text(_NAME), one) for one in node.messages(5)),
        )  # fmt: skip

    @property
    def has_graphs(self) -> bool:
        """Whether it holds graphs of its own, whose values have names that are not changed."""
        return any(one.has(6) or one.has(11) for _, one in self.attributes)

    def renamed(self, names: Mapping[str, str]) -> Call:
        """The same with other names of values."""
        inputs, outputs = (tuple(names.get(one, one) for one in values) for values in (self.inputs, self.outputs))
        return replace(self, inputs=inputs, outputs=outputs, names={**names} if self.has_graphs else {})


class Functions:
    """The functions of a file.

    Args:
        file: For the errors.
        messages: The functions as they are stored.
        opsets: The version of operators, by domain, that the file states: a function has to state the same.

    Attributes:
        opaque: Names of those that are called and were left as they are.
    """

    def __init__(
        self, file: WeightFile, messages: Iterable[Message], opsets: Mapping[str, int] | None = None
    ) -> None:  # fmt: skip
        self._file = file
        self._all = {(one.text(10), one.text(1), one.text(13)): one for one in messages}
        self._opsets = opsets or {}
        self._count = 0
        self.opaque: set[str] = set()

    def body(self, call: Call) -> list[Call] | None:
        """The calls that a call of a function stands for; None if it calls none that can be resolved.

        Raises:
            PortError: If functions call each other without end.
        """
        function = self._all.get((call.domain, call.kind, ""))
        if function is None:
            return None
        nodes = [Call.of(one) for one in function.messages(7)]
        if any(one.has_graphs for one in nodes) or not self._is_same_opset(function):
            self.opaque.add(call.kind)
            return None
        self._count += len(nodes) + 1
        if self._count > _MOST or call.depth >= _DEEPEST:
            raise self._file.damaged(f"functions that call each other without end, such as {call.kind[:60]!r}")
        formal, given = function.texts(4), (*call.inputs, *[""] * len(function.texts(4)))
        names = dict(zip(formal, given, strict=False))
        own = {value for node in nodes for value in node.outputs if value}
        names |= {value: f"{call.outputs[0] if call.outputs else call.name}/{value}" for value in own}
        names |= dict(zip(function.texts(5), call.outputs, strict=False))
        settings = {one.text(_NAME): one for one in function.messages(11)} | dict(call.attributes)
        return [
            replace(node.renamed(names), attributes=_resolved(node, settings), depth=call.depth + 1) for node in nodes
        ]

    def _is_same_opset(self, function: Message) -> bool:
        stated = {one.text(1): one.integer(2) for one in function.messages(9)}
        return all(self._opsets.get(domain, version) == version for domain, version in stated.items())


def _resolved(node: Call, settings: Mapping[str, Message]) -> tuple[tuple[str, Message], ...]:
    """The settings of a node in a function; some stand for settings of the call, and are left out where it has none."""
    found = (
        (name, settings.get(one.text(_REFERENCE)) if one.has(_REFERENCE) else one) for name, one in node.attributes
    )
    return tuple((name, one) for name, one in found if one is not None)


def branch_of(call: Call, condition: bool, constants: AbstractSet[str]) -> list[Call] | None:
    """The calls of the branch that an `If` takes; None if their values cannot stand in the graph around it.

    Args:
        call: The `If`.
        condition: What it depends on.
        constants: Names of values that are known: branches in the branch have to depend on these.
    """
    wanted = "then_branch" if condition else "else_branch"
    graph = next((one.message(6) for name, one in call.attributes if name == wanted), None)
    if graph is None or graph.has(5) or graph.has(11):
        return None
    nodes = [Call.of(one) for one in graph.messages(1)]
    if any(one.has_graphs and (one.kind != "If" or not set(one.inputs) <= constants) for one in nodes):
        return None
    own = {value for node in nodes for value in node.outputs if value}
    names = {**call.names, **{value: f"{call.outputs[0] if call.outputs else call.name}/{value}" for value in own}}
    given = [one.text(1) for one in graph.messages(12)]
    if not set(given) <= own:
        return None  # values of the graph around it, which ONNX does not allow here
    names |= dict(zip(given, call.outputs, strict=False))
    return [node.renamed(names) for node in nodes]
