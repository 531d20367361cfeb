"""The layer of each path in a Keras 3 file: paths consist of classes and numbers, not of the names of layers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.porting.readers.keras_graph import is_model, layers_in, name_of, settings_of
from frostline.porting.readers.keras_leaves import is_known, snake_case

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The list of a model's layers, and its name in Keras 2.13.
_LIST, _OLD_LIST = "layers", "_layer_checkpoint_dependencies"
_LISTS = (_LIST, _OLD_LIST)
_CELLS = "cells"
_MAX_UNIT = 1_000  # characters; the names of nested models add up
# Keras 2 writes these attributes with a leading underscore.
_ATTENTION = {"query_dense": "query", "key_dense": "key", "value_dense": "value", "output_dense": "attention_output"}
_ATTENTION_KINDS = ("multi_head_attention", "grouped_query_attention", "group_query_attention")
# The parts of built-in Keras layers.
_PARTS = {"cell", _CELLS, "layer", *_ATTENTION, *(f"_{name}" for name in _ATTENTION), "forward_layer", "backward_layer"}
_DIRECTIONS = {"forward_layer": "forward", "backward_layer": "backward"}


@dataclass(frozen=True)
class Place:
    """The owner of the variables at one path.

    Attributes:
        unit: The name of the layer, after those of the enclosing models.
        kind: The class of the owner, in snake case; empty if unknown.
        config: The settings of the owner; None if the file contains none.
        prefix: The part of the layer, if it has several: `forward`, `backward`, `query`, `attention_output`.
    """

    unit: str
    kind: str
    config: Mapping[str, Any] | None = None
    prefix: str = ""


def places(model: Mapping[str, Any]) -> dict[str, Place]:
    """The owner of every path that Keras writes for a serialized model.

    Example:
        >>> layer = {"class_name": "Conv2D", "config": {"name": "stem", "use_bias": False}}
        >>> found = places({"class_name": "Sequential", "config": {"layers": [layer, layer]}})
        >>> {path: place.unit for path, place in found.items()}
        {'layers/conv2d': 'stem', 'layers/conv2d_1': 'stem'}
    """
    found: dict[str, Place] = {}
    _model(model, "", "", found)
    return found


def modern(path: str) -> str:
    """The path in the form of the current version of Keras."""
    return "/".join(_LIST if part == _OLD_LIST else part for part in path.split("/"))


def place_without_config(path: str, name_at: Callable[[str], str | None]) -> Place:
    """The owner of a path in a file without a configuration, from the path alone.

    Args:
        path: Names of groups, joined by `/`.
        name_at: Returns the name that Keras attached to a path; None if there is none.
    """
    parts = path.split("/") if path else []
    if len(parts) > 1 and parts[-1] == "cell":
        if _is_recurrent(kind := _kind(parts[:-1], name_at)) or _half(parts[:-1], name_at):
            half = _half(parts[:-1], name_at)
            # All recurrent cells have the same variables, so the class of one of them is used.
            return Place(_unit(parts[: -2 if half else -1], name_at), kind or "lstm", None, half)
    elif len(parts) > 1 and (part := parts[-1].removeprefix("_")) in _ATTENTION and _is_attention(parts[:-1], name_at):
        return Place(_unit(parts[:-1], name_at), "einsum_dense", None, _ATTENTION[part])
    elif len(parts) > 1 and parts[-1] == "layer" and _kind(parts[:-1], name_at) == "time_distributed":
        return Place(_unit(parts[:-1], name_at), _kind(parts, name_at))
    return Place(_unit(parts, name_at), _kind(parts, name_at))


def is_counted(path: str, names: Mapping[str, str]) -> bool:
    """Whether a path numbers layers in the order of execution, as only functional and sequential models do.

    For other objects, Keras visits the attributes in alphabetical order, which is no evidence of the order of
    execution. Their attribute `layers` lists the layers in the order of creation; that of functional models contains
    input layers.

    Args:
        path: Names of groups, joined by `/`.
        names: The names that Keras attached to groups, including groups without variables.

    Example:
        >>> names = {"": "sequential", "layers/dense_1": "last"}
        >>> [is_counted(path, names) for path in ("layers/dense_1", "decode", "layers/block/decode")]
        [True, False, False]
    """
    parts = modern(path).split("/")
    lists = [at for at, part in enumerate(parts) if part == _LIST]
    rest = [part for at, part in enumerate(parts) if part != _LIST and parts[at - 1] not in (_LIST, _CELLS)]
    return lists[:1] == [0] and all(part in _PARTS for part in rest) and all(_is_run(parts[:at], names) for at in lists)


def _is_run(parts: list[str], names: Mapping[str, str]) -> bool:
    inside = "/".join([*parts, _LIST, "input_layer"])
    is_functional = any(name == inside or name.startswith(f"{inside}_") for name in names)
    return is_functional or _base(parts[-1] if parts else names.get("", ""))[0] == "sequential"


def file_order(path: str) -> list[tuple[str, int]]:
    """A sort key for paths: `conv2d` before `conv2d_2` before `conv2d_10`."""
    return [_base(part) for part in path.split("/")]


def _model(model: Mapping[str, Any], path: str, unit: str, found: dict[str, Place]) -> None:
    used: Counter[str] = Counter()
    for layer in layers_in(model):
        module = str(layer.get("module"))
        if module.startswith(("keras.src.ops", "keras.ops")):
            continue  # an operation on tensors is in the configuration, but not in the model's list of layers
        kind = snake_case(str(layer.get("class_name")))
        part = f"{kind}_{used[kind]}" if used[kind] else kind
        used[kind] += 1
        _layer(layer, f"{path}layers/{part}", unit + name_of(layer), found)


def _layer(layer: Mapping[str, Any], path: str, unit: str, found: dict[str, Place]) -> None:
    if len(unit) > _MAX_UNIT:
        return
    kind, config = snake_case(str(layer.get("class_name"))), settings_of(layer)
    inner = config.get("layer")
    found[path] = Place(unit, kind, config)
    if is_model(layer):
        _model(layer, f"{path}/", f"{unit}/", found)
    elif kind == "bidirectional" and isinstance(inner, dict):
        for part, prefix in _DIRECTIONS.items():
            _recurrent(inner, f"{path}/{part}", unit, prefix, found)
    elif kind in _ATTENTION_KINDS:
        for part, prefix in _ATTENTION.items():
            found[f"{path}/{part}"] = found[f"{path}/_{part}"] = Place(unit, "einsum_dense", config, prefix)
    elif isinstance(inner, dict):
        _layer(inner, f"{path}/layer", unit, found)
    else:
        _recurrent(layer, path, unit, "", found)


def _recurrent(layer: Mapping[str, Any], path: str, unit: str, prefix: str, found: dict[str, Place]) -> None:
    config = settings_of(layer)
    cell = config.get("cell")
    if isinstance(cell, dict) and cell.get("class_name") == "StackedRNNCells":
        cells = settings_of(cell).get("cells")
        used: Counter[str] = Counter()
        for number, part in enumerate(cells if isinstance(cells, list) else []):
            if not isinstance(part, dict):
                continue
            kind = snake_case(str(part.get("class_name")))
            inner = f"{path}/cell/cells/{kind}_{used[kind]}".removesuffix("_0")
            used[kind] += 1
            found[inner] = Place(f"{unit}/{number}", kind, settings_of(part), prefix)
    elif isinstance(cell, dict):
        found[f"{path}/cell"] = Place(unit, snake_case(str(cell.get("class_name"))), settings_of(cell), prefix)
    elif _is_recurrent(kind := snake_case(str(layer.get("class_name")))):
        found[f"{path}/cell"] = Place(unit, kind, config, prefix)


def _is_recurrent(kind: str) -> bool:
    return kind in ("lstm", "gru", "simple_rnn") or kind.startswith("conv_lstm")


def _is_attention(parts: list[str], name_at: Callable[[str], str | None]) -> bool:
    return _kind(parts, name_at) in _ATTENTION_KINDS


def _half(parts: list[str], name_at: Callable[[str], str | None]) -> str:
    """The half of a bidirectional layer at a path (`forward`, `backward`); empty for other paths."""
    is_half = len(parts) > 1 and parts[-1] in _DIRECTIONS and _kind(parts[:-1], name_at) == "bidirectional"
    return _DIRECTIONS[parts[-1]] if is_half else ""


def _kind(parts: list[str], name_at: Callable[[str], str | None]) -> str:
    """The class of the object at a path; empty if it is unknown.

    In a list, the parts of a path are classes. Elsewhere they are names of attributes, which may look like another
    class; there the default name of the layer, which Keras attaches to the path, contains its class.
    """
    if not parts:
        return ""
    is_listed = len(parts) > 1 and (
        parts[-2] in (*_LISTS, _CELLS) or (name_at("") and not name_at("/".join(parts[:-1])))
    )
    named = parts[-1] if is_listed else name_at("/".join(parts)) or ""
    kind = _base(re.sub("^(forward|backward)_", "", named))[0]
    return kind if _means_class(kind) else ""


def _means_class(name: str) -> bool:
    return is_known(name) or name in (*_ATTENTION_KINDS, "bidirectional", "time_distributed")


def _unit(parts: list[str], name_at: Callable[[str], str | None]) -> str:
    """The path without lists of layers, and with the names of the layers in these lists."""
    names: list[str] = []
    for at, part in enumerate(parts):
        if part in _LISTS and at + 1 < len(parts):
            continue
        is_listed = at > 0 and parts[at - 1] in _LISTS
        names.append((name_at("/".join(parts[: at + 1])) or part) if is_listed else part)
    return "/".join(names)


def _base(part: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:(.*?)_)?(\d{1,9})", part)
    return (match[1] or "", int(match[2])) if match else (part, 0)
