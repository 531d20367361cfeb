"""Inlining of ONNX functions, and of `If` branches whose condition is known.

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

_MOST = 50_000  # inlined calls; a network of 1,000 layers has 5,000
_DEEPEST = 32  # nesting depth of function calls
_REFERENCE, _NAME = 21, 1  # fields of an AttributeProto: the attribute of the call that it refers to, and its name


@dataclass(frozen=True)
class Call:
    """A node, with the names of its values in the graph into which it is inlined.

    Attributes:
        kind: Its operator.
        domain: The domain of its operator.
        name: Its name in the file; may be empty.
        inputs: The names of its inputs.
        outputs: The names of its outputs.
        attributes: Its attributes, by name.
        depth: The number of functions around it.
        names: New names of values that its subgraphs use from the graph around it.
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
        """A node that is not inlined."""
        return cls(
            node.text(4), node.text(7), node.text(3), tuple(node.texts(1)), tuple(node.texts(2)),
            tuple((one.text(_NAME), one) for one in node.messages(5)),
        )  # fmt: skip

    @property
    def has_graphs(self) -> bool:
        """Whether it has subgraphs; the names inside of these are not changed."""
        return any(one.has(6) or one.has(11) for _, one in self.attributes)

    def renamed(self, names: Mapping[str, str]) -> Call:
        """The same call with other names of values."""
        inputs, outputs = (tuple(names.get(one, one) for one in values) for values in (self.inputs, self.outputs))
        return replace(self, inputs=inputs, outputs=outputs, names={**names} if self.has_graphs else {})


class Functions:
    """The functions of a file.

    Args:
        file: The file, for errors.
        messages: The stored functions.
        opsets: The operator versions of the file, by domain; a function must have the same ones.

    Attributes:
        opaque: The names of functions that are called and were not inlined.
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
        """The nodes of the called function; None if `call` calls no function, or one that cannot be inlined.

        Raises:
            PortError: If the calls are recursive.
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
            raise self._file.damaged(
                f"functions that call each other recursively or too often, such as {call.kind[:60]!r}"
            )
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
    """The attributes of a node in a function; a reference to an attribute that the call lacks is left out."""
    found = (
        (name, settings.get(one.text(_REFERENCE)) if one.has(_REFERENCE) else one) for name, one in node.attributes
    )
    return tuple((name, one) for name, one in found if one is not None)


def branch_of(call: Call, condition: bool, constants: AbstractSet[str]) -> list[Call] | None:
    """The nodes of the branch that an `If` takes; None if they cannot be inlined.

    Args:
        call: The `If` node.
        condition: The value of its condition.
        constants: The names of constants: nested branches must depend on these only.
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
        return None  # it redefines values of the outer graph, which ONNX does not allow
    names |= dict(zip(given, call.outputs, strict=False))
    return [node.renamed(names) for node in nodes]
