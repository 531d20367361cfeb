"""Legacy Keras `.h5` files (Keras 1 and 2, and the old format of Keras 3), with or without the architecture."""

from __future__ import annotations

import re
from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from frostline.porting.readers import hdf5, strict_json
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.keras_graph import code_in, ends, graph, is_model, layers_in, name_of
from frostline.porting.readers.keras_places import file_order
from frostline.porting.readers.source_names import part_of_keras_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from frostline.porting.readers.contract import SourceLayer
    from frostline.porting.readers.hdf5 import Hdf5
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_WEIGHTS, _OPTIMIZER, _TOP_LEVEL = "model_weights", "optimizer_weights", "top_level_model_weights"
_MAX_ATTRIBUTE_PARTS = 1_000


def claims(file: WeightFile) -> bool:
    """Whether the file is HDF5 with a list of layer names at its root, or at the root of its weights."""
    if file.start(8) != hdf5.SIGNATURE:
        return False
    found = hdf5.walk(file, most=1)
    roots = [root for root in ("", _WEIGHTS) if root in found.groups]
    return any(found.has(root, name) for root in roots for name in ("layer_names", "layer_names0"))


def read(file: WeightFile) -> Source:
    """Every array of the file.

    Args:
        file: A file of `model.save("x.h5")` or `model.save_weights("x.h5")`.

    Raises:
        PortError: If the file is damaged, contains HDF5 features that are refused, or was written by Keras on Theano,
            whose convolution kernels are mirrored.
    """
    found = hdf5.walk(file)
    root = _root(found)
    model = _model(file, found)
    layers = graph(file, model) if is_model(model) else ()
    names = [name_of(layer) for layer in layers_in(model)] if layers else _names(file, found, root, "layer_names")
    _check_backend(file, found, root)
    notes = list(code_in(model))
    dropped: dict[str, str] = {}
    tensors: list[tuple[tuple[int, int, int], SourceTensor]] = []
    known = _ListedLayers(layers, names, [path.removeprefix(f"{root}/") if root else path for path in found.arrays])
    for path in _in_order(file, found, root, [] if layers else names):
        array = found.arrays[path]
        inner = path.removeprefix(f"{root}/") if root else path
        layer = known.layer_of(inner)
        why = _no_part(path, inner, layer)
        if why:
            dropped[path] = why
            continue
        unit, leaf = known.place(layer or "", inner)
        tensors.append(
            (known.rank(unit, layer or ""), SourceTensor(path, array.shape, array.dtype, unit, leaf, array.load))
        )
    tensors.sort(key=lambda item: item[0])
    if "not named by its layer" in dropped.values():
        notes.append("Arrays of layers that are not in the file's list of layers were left out.")
    kind = "Keras model in HDF5" if root else "Keras weights in HDF5"
    order = "graph" if layers or (names and not known.is_scoped) else "made" if names else "numbers"
    inputs, outputs = ends(file, model) if layers else ((), ())
    kept = tuple(tensor for _, tensor in tensors)
    return Source(kind, "keras", kept, order, layers, MappingProxyType(dropped), tuple(notes), inputs, outputs)


def _root(found: Hdf5) -> str:
    return _WEIGHTS if _WEIGHTS in found.groups else ""


def _model(file: WeightFile, found: Hdf5) -> Mapping[str, Any]:
    stated = found.attribute("", "model_config")
    if not isinstance(stated, str):
        return {}
    model = strict_json.parse(file, stated.encode(errors="replace"))
    return model if isinstance(model, dict) else {}


def _names(file: WeightFile, found: Hdf5, group: str, name: str) -> list[str]:
    """A list of names. Long lists are split over several attributes, since HDF5 limits each to 64 KB."""
    whole = found.attribute(group, name)
    if isinstance(whole, list):
        return whole
    parts: list[str] = []
    for number in range(_MAX_ATTRIBUTE_PARTS):
        part = found.attribute(group, f"{name}{number}")
        if part is None:
            return parts
        parts += part if isinstance(part, list) else [part]
    raise file.damaged(f"a list of names in more than {_MAX_ATTRIBUTE_PARTS} attributes")


def _in_order(file: WeightFile, found: Hdf5, root: str, layers: Sequence[str]) -> list[str]:
    """The paths of all arrays: first in the order of the lists of the layers, then by the numbers in the paths."""
    base = f"{root}/" if root else ""
    groups = set(found.groups)
    listed = [
        f"{base}{layer}/{name}"
        for layer in layers
        if base + layer in groups
        for name in _names(file, found, base + layer, "weight_names")
    ]
    ranks = {path: rank for rank, path in enumerate(listed)}
    return sorted(found.arrays, key=lambda path: (ranks.get(path, len(ranks)), file_order(path)))


def _check_backend(file: WeightFile, found: Hdf5, root: str) -> None:
    backend = found.attribute(root, "backend") or found.attribute("", "backend")
    if backend == "theano" and any(len(array.shape) > 2 for array in found.arrays.values()):
        raise file.refused(
            "The file was written by Keras on Theano, whose convolution kernels are mirrored.", f"backend {backend!r}",
            "load the file in Keras 2 on TensorFlow, which converts the kernels, and save the weights again.",
        )  # fmt: skip


def _no_part(path: str, inner: str, layer: str | None) -> str | None:
    """The drop class of an array; None if it is part of the network."""
    if path.startswith(f"{_OPTIMIZER}/"):
        return "optimizer slot"
    if "seed_generator" in inner:
        return "random state"
    return "not named by its layer" if layer is None else None


class _ListedLayers:
    """The layers in the file's list, by group, and the units that the architecture assigns to them."""

    def __init__(self, layers: Sequence[SourceLayer], names: Sequence[str], paths: Iterable[str]) -> None:
        self._names = {name: rank for rank, name in enumerate(names)}
        units = dict.fromkeys(layer.unit or layer.name for layer in layers)
        self._ranks = {unit: rank for rank, unit in enumerate(units)}
        self._inner = defaultdict[tuple[str, str], list[str]](list)
        for unit in units:
            self._inner[(unit.partition("/")[0], unit.rpartition("/")[2])].append(unit)
        self._seen: dict[str, int] = {}
        self._scopes = defaultdict[str, set[str]](set)  # by layer: the outermost scopes of its arrays
        for path in paths:
            layer = self.layer_of(path) or ""
            self._scopes[layer].add(path.removeprefix(f"{layer}/").partition("/")[0])
        self.is_scoped = (
            False  # whether a scope encloses the name of a layer: a subclassed model, whose layers have no order
        )

    def layer_of(self, path: str) -> str | None:
        """The listed layer whose group contains an array; names of layers may contain slashes."""
        if path.startswith(f"{_TOP_LEVEL}/"):
            return _TOP_LEVEL
        parts = path.split("/")[:-1]
        if not self._names:
            return parts[0] if parts else None
        starts = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
        return next((start for start in starts if start in self._names), None)

    def place(self, layer: str, path: str) -> tuple[str, str]:
        """Unit and leaf of an array in the group of a layer."""
        parts = re.sub(r":\d+$", "", path.removeprefix(f"{layer}/")).split("/")
        leaf = parts.pop()
        if not parts:  # Keras 1 writes `dense_1/dense_1_W`, later versions `dense_1/dense_1/kernel:0`
            leaf = leaf.removeprefix(f"{layer}_")
        if layer == _TOP_LEVEL:
            return "/".join(parts), leaf
        name = layer.rpartition("/")[2]
        if parts and name not in parts and self._is_counted(layer, parts[0]):
            parts[0] = name
        self.is_scoped |= name in parts[1:]
        if name in parts:
            parts = parts[len(parts) - parts[::-1].index(name) :]  # the scopes of enclosing models come before it
        return self._collapsed(layer, parts, leaf)

    def _is_counted(self, layer: str, scope: str) -> bool:
        """Whether a scope is the name of the layer with a number that TensorFlow appended to make it unique.

        The scopes of layers in a nested model may look the same, but then there are several of them.
        """
        is_numbered = re.fullmatch(rf"{re.escape(layer.rpartition('/')[2])}_\d+", scope) is not None
        return is_numbered and len(self._scopes[layer]) == 1 and (layer, scope) not in self._inner

    def _collapsed(self, layer: str, parts: list[str], leaf: str) -> tuple[str, str]:
        (_, *scopes), _, which = part_of_keras_layer([layer, *parts])
        return self._unit(layer, scopes), f"{which}/{leaf}" if which else leaf

    def _unit(self, layer: str, parts: list[str]) -> str:
        """The layer, or the inner layer: the names of arrays do not contain all of the nested models."""
        if not parts:
            return layer
        inner = self._inner.get((layer, parts[-1]), [])
        return inner[0] if len(inner) == 1 else "/".join([layer, *parts])

    def rank(self, unit: str, layer: str) -> tuple[int, int, int]:
        """The sort key of a unit: its rank in the list of layers, in the architecture, and its first occurrence."""
        first_seen = self._seen.setdefault(unit, len(self._seen))
        return (self._names.get(layer, len(self._names)), self._ranks.get(unit, len(self._ranks)), first_seen)
