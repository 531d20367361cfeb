"""Networks whose graph is changed by chance: settings, names, shapes, order; the file around it stays sound."""

from __future__ import annotations

import copy
import io
import json
import random
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = Path(__file__).parents[2] / "tests" / "porting" / "files"
NUMBERS = (0, 1, -1, 2, 3, 5, 7, 64, 255, 1000, 65_536, 2**31 - 1, 2**31, -(2**31), 2**60, -(2**60), 2**63 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-320, 1e-30, 1e30, 1e308, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "", " ", "x", "self", "forward", "torch", "nn", "None", "class", "softmax", "relu", "same", "valid", "bilinear",
    "__import__('os').system('touch INJECTED')", "x); __import__('os').system('touch INJECTED'); (", '"""', "'''",
    "a\nimport os\nos.system('touch INJECTED')", "{0.__class__}", "{}", "{x!r}", "%s", "\\", "\\u0000", "\x00",
    "\u202e", "ab,bc->ac", "a" * 5000, "0", "1x", "_v0_", "_v1_", "layer.0", "../../etc/passwd", "é", "＿init＿",
    "channels_first",
    "eval(open('INJECTED','w'))", "lambda: 0", "self.__dict__", "weight\"]; import os; x=[\"",
)  # fmt: skip
_MAX_FILE_BYTES = 100_000


def _fixtures() -> dict[str, bytes]:
    """The networks, by name: graphs of ONNX, and archives of Keras."""
    found: dict[str, bytes] = {}
    for kind in ("operators", "functions"):
        with np.load(FILES / "scaffold" / f"{kind}.npz") as arrays:
            found |= {f"{kind}/{name}.onnx": arrays[name].tobytes() for name in arrays if ":" not in name}
    for folder in ("interpreting", "masks", "keras3", "networks"):
        for path in sorted((FILES / folder).rglob("*.keras")):
            if path.stat().st_size < _MAX_FILE_BYTES:
                found[str(path.relative_to(FILES))] = path.read_bytes()
    return found


FIXTURES = _fixtures()
_KERAS = [name for name in FIXTURES if name.endswith(".keras")]
_WEIGHTS = [0.1 if name.startswith("masks/") else 1.0 for name in _KERAS]  # they have 60 layers
_ONNX = [name for name in FIXTURES if name.endswith(".onnx")]


def changed(number: int) -> tuple[str, bytes]:
    """The name of the network that was changed, and the file; the same for the same number."""
    draw = random.Random(number)
    fixture = draw.choices(_KERAS, _WEIGHTS)[0] if number % 2 else draw.choice(_ONNX)
    change = _changed_archive if number % 2 else _changed_graph
    return fixture, change(FIXTURES[fixture], draw)


def _changed_archive(content: bytes, draw: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        config = _changed_json(config, draw)
    members["config.json"] = json.dumps(config).encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # no time of day
    return made.getvalue()


def _changed_json(config: Any, draw: random.Random) -> Any:
    places = list(_places(config))
    if not places:
        return config
    holder, key = draw.choice(places)
    value = holder[key]
    if isinstance(value, str) and draw.random() < 0.5:  # the same everywhere, so that the graph still holds together
        return _renamed(config, value, draw.choice(TEXTS))
    kind = draw.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, at = draw.choice(places)
        holder[key] = copy.deepcopy(other[at])
    elif kind == 2 and isinstance(value, list) and value:
        value.append(copy.deepcopy(draw.choice(value)))
    elif kind == 3 and isinstance(value, list):
        draw.shuffle(value)
    else:
        holder[key] = _other(value, draw)
    return config


def _other(value: Any, draw: random.Random) -> Any:
    if isinstance(value, str) or draw.random() < 0.1:
        return draw.choice(TEXTS)
    if isinstance(value, bool):
        return not value
    if isinstance(value, float) and draw.random() < 0.7:
        return draw.choice(FLOATS)
    return draw.choice((*NUMBERS, None, [], {}, [draw.choice(NUMBERS)], [draw.choice(NUMBERS), draw.choice(NUMBERS)]))


def _places(part: Any) -> Any:
    """Every value that can be changed: its holder, and its key."""
    pairs = list(part.items()) if isinstance(part, dict) else list(enumerate(part)) if isinstance(part, list) else []
    for key, value in pairs:
        yield part, key
        yield from _places(value)


def _renamed(part: Any, old: str, new: str) -> Any:
    if isinstance(part, dict):
        return {(new if key == old else key): _renamed(value, old, new) for key, value in part.items()}
    if isinstance(part, list):
        return [_renamed(one, old, new) for one in part]
    return new if part == old else part


def _changed_graph(content: bytes, draw: random.Random) -> bytes:
    from onnx import ModelProto

    model = ModelProto.FromString(content)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        draw.choice(_CHANGES)(model, draw)
    return model.SerializeToString()


def _nodes(model: Any) -> list[Any]:
    return [*model.graph.node, *(node for function in model.functions for node in function.node)]


def _change_setting(model: Any, draw: random.Random) -> None:
    settings = [one for node in _nodes(model) for one in node.attribute]
    if not settings:
        return
    one = draw.choice(settings)
    if one.type == 2:
        one.i = draw.choice(NUMBERS)
    elif one.type == 1:
        one.f = np.float32(draw.choice(FLOATS)) if abs(value := draw.choice(FLOATS)) > 1e38 else value
    elif one.type == 3:
        one.s = draw.choice(TEXTS).encode("utf-8", "surrogatepass")
    elif one.type == 7:
        values = list(one.ints) or [1]
        values[draw.randrange(len(values))] = draw.choice(NUMBERS)
        del one.ints[:]
        one.ints.extend(values[: draw.choice((len(values), 1, len(values) * 2))])
    else:
        one.name = draw.choice(("axis", "perm", "mode", "k", *TEXTS))


def _change_kind(model: Any, draw: random.Random) -> None:
    nodes = _nodes(model)
    kinds = [*(one.op_type for one in nodes), "Reshape", "Concat", "Gather", "Resize", "Pad", "Tile", "Expand",
             "ConstantOfShape", "Range", "OneHot", "Einsum", "LSTM", "Slice", "TopK", "If", "Loop",
             draw.choice(TEXTS)]  # fmt: skip
    draw.choice(nodes).op_type = draw.choice(kinds)


def _change_input(model: Any, draw: random.Random) -> None:
    node = draw.choice(_nodes(model))
    values = [one for other in model.graph.node for one in (*other.input, *other.output)]
    if not node.input or draw.random() < 0.2:
        node.input.append(draw.choice(values))
    elif draw.random() < 0.2:
        del node.input[draw.randrange(len(node.input))]
    else:
        node.input[draw.randrange(len(node.input))] = draw.choice((*values, ""))


def _change_name(model: Any, draw: random.Random) -> None:
    """One value under another name, everywhere."""
    graph, new = model.graph, draw.choice(TEXTS)
    names = [one for node in graph.node for one in (*node.input, *node.output)]
    old = draw.choice(names)
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [new if one == old else one for one in values]
    for one in (*graph.input, *graph.output, *graph.initializer):
        one.name = new if one.name == old else one.name
    draw.choice(graph.node).name = draw.choice(TEXTS)


def _change_shape(model: Any, draw: random.Random) -> None:
    given = draw.choice(model.graph.input).type.tensor_type
    if draw.random() < 0.3:
        given.elem_type = draw.choice((0, 1, 2, 4, 6, 7, 8, 9, 10, 11, 16, 99))
    elif given.shape.dim:
        axis = draw.choice(given.shape.dim)
        axis.Clear()
        if draw.random() < 0.5:
            axis.dim_param = draw.choice(TEXTS)
        else:
            axis.dim_value = draw.choice(NUMBERS)


def _change_tensor(model: Any, draw: random.Random) -> None:
    """A tensor of whole numbers with others, such as a shape; or one with other sizes of as many elements."""
    from onnx import numpy_helper

    if not model.graph.initializer:
        return
    tensor = draw.choice(model.graph.initializer)
    values = numpy_helper.to_array(tensor)
    if values.dtype.kind == "i" and values.size:
        values = values.copy()
        values.reshape(-1)[draw.randrange(values.size)] = np.int64(draw.choice(NUMBERS)).astype(values.dtype)
    else:
        values = values.reshape(draw.choice(((-1,), values.shape[::-1], (1, *values.shape), (*values.shape, 1))))
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _change_order(model: Any, draw: random.Random) -> None:
    nodes = list(model.graph.node)
    if draw.random() < 0.5:
        nodes.append(draw.choice(nodes))
    else:
        nodes[draw.randrange(len(nodes))] = draw.choice(nodes)
    kept = [type(one).FromString(one.SerializeToString()) for one in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _change_version(model: Any, draw: random.Random) -> None:
    draw.choice(model.opset_import).version = draw.choice((1, 6, 9, 11, 13, 18, 22, 2**31))


_CHANGES: tuple[Callable[[Any, random.Random], None], ...] = (
    _change_setting, _change_setting, _change_setting, _change_kind, _change_input, _change_name, _change_shape,
    _change_tensor, _change_tensor, _change_order, _change_version,
)  # fmt: skip
