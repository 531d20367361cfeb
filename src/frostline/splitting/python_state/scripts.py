"""What scripted and traced functions compute, as text: their graph, and every value that it reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import torch

from frostline.core.digests import tensor_digest

SCRIPTED: Any = (torch.jit.ScriptFunction, torch._C.ScriptMethod, torch.jit.ScriptModule)

_MANGLED = re.compile(r"___torch_mangle_\d+\.")  # counts classes of this process
_SOURCE = re.compile(r" # \S+:\d+:\d+$", re.MULTILINE)
_UNREADABLE = frozenset(("prim::PythonOp", "prim::CallMethod", "prim::CallFunction"))


class UnreadableScript(Exception):  # noqa: N818 (a signal inside this pillar)
    """A script calls what its graph does not hold."""


def script_text(script: Any) -> str:
    """The inlined graph of a script, with the content of its constants, weights and attributes.

    Args:
        script: A scripted function, a scripted module, or a method of one.

    Raises:
        UnreadableScript: If it calls Python, or a method that is chosen when it runs.
    """
    owner: Any = None
    if isinstance(script, torch.jit.ScriptModule):
        script = cast("Any", script)._c._get_method("forward")
    if isinstance(script, torch._C.ScriptMethod):
        owner = script.owner
    script = cast("Any", script)
    graph = script.inlined_graph
    objects: dict[str, Any] = {next(iter(graph.inputs())).debugName(): owner} if owner is not None else {}
    read: list[str] = []
    for node in _nodes(graph):
        if node.kind() in _UNREADABLE:
            raise UnreadableScript(f"the script {script.name}, which calls {node.kind()}")
        if node.kind() == "prim::GetAttr":
            value = objects[node.inputsAt(0).debugName()].getattr(node.s("name"))
            if hasattr(value, "getattr"):
                objects[node.outputsAt(0).debugName()] = value
            else:
                read.append(_text(value))
        elif node.kind() == "prim::Constant" and node.hasAttribute("value"):
            read += _constant(node)
    return f"{_SOURCE.sub('', _MANGLED.sub('', graph.str(False)))}{read}"


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _constant(node: Any) -> list[str]:
    """What the text of a graph does not show of a constant: tensors are printed without their values."""
    kind = node.kindOf("value")
    if kind == "t":
        return [tensor_digest(node.t("value"))]
    if kind == "ts":
        return [tensor_digest(value) for value in node.ts("value")]
    return [_text(node.ival("value"))] if kind == "ival" else []


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return tensor_digest(value)
    if isinstance(value, dict):
        return repr([(repr(key), _text(part)) for key, part in value.items()])
    if isinstance(value, (list, tuple)):
        return repr([_text(part) for part in value])
    if value is None or isinstance(value, (bool, int, float, complex, str, torch.device, torch.dtype)):
        return repr(value)
    raise UnreadableScript(f"a value of type {type(value).__qualname__} that a script reads")
