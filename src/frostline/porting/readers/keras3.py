"""Keras 3: `.keras` archives, `.weights.h5` files, and sharded weights (`.weights.json`)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from frostline.porting.readers import hdf5, strict_json, zip_archive
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.keras_graph import code_in, ends, graph, is_model
from frostline.porting.readers.keras_leaves import is_known, leaves, leaves_by_shape
from frostline.porting.readers.keras_places import Place, file_order, is_counted, modern, place_without_config, places
from frostline.porting.readers.weight_file import neighbour
from frostline.porting.readers.zip_archive import Archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

    from frostline.porting.readers.contract import SourceLayer
    from frostline.porting.readers.hdf5 import Array, Hdf5
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = False
_CONFIG, _WEIGHTS, _SHARDS = "config.json", "model.weights.h5", "model.weights.json"
_MAX_SHARDS = 10_000
_MAX_NOTES = 20
_UNKNOWN = (-1, -1)


@dataclass
class _Weights:
    """The arrays of one file or of all shards, and the names of layers that are attached to their groups."""

    arrays: dict[str, Array] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def claims(file: WeightFile) -> bool:
    """Whether the file contains numbered variables (`vars/0`), in HDF5, in an archive, or in shards."""
    start = file.start(8)
    if start == hdf5.SIGNATURE:
        return any(path.split("/")[-2:-1] == ["vars"] for path in hdf5.walk(file, most=1).arrays)
    if start.startswith(zip_archive.SIGNATURE):
        members = Archive(file).members
        return _CONFIG in members and (_WEIGHTS in members or _SHARDS in members)
    return (
        start.lstrip().startswith(b"{")
        and b'"weight_map"' in file.start(1 << 16)
        and b".weights.h5" in file.start(1 << 16)
    )


def read(file: WeightFile) -> Source:
    """Every array of a Keras 3 file.

    Args:
        file: An archive, an HDF5 file, or the index of shards beside it.

    Raises:
        PortError: If the file is damaged, or contains HDF5 features that are refused.
    """
    model: Mapping[str, Any] = {}
    start = file.start(4)
    if start == zip_archive.SIGNATURE:
        archive = Archive(file)
        model = _object(file, strict_json.parse(file, archive.read(_CONFIG)))
        weights = _in_archive(file, archive)
        kind = "Keras 3 archive"
    elif start == hdf5.SIGNATURE[:4]:
        weights, kind = _gather(hdf5.walk(file)), "Keras 3 weights"
    else:
        weights, kind = _beside(file), "Keras 3 weights in shards"
    return _source(file, kind, model, weights)


def _in_archive(file: WeightFile, archive: Archive) -> _Weights:
    """The weights in one member, which Keras does not compress, so that HDF5 is read in place; or in several."""
    if _WEIGHTS in archive.members:
        return _gather(hdf5.walk(file, archive.open(_WEIGHTS)))
    weights = _Weights()
    for name in _shard_names(file, archive.read(_SHARDS)):
        _merge(file, weights, _gather(hdf5.walk(file, archive.open(name))))
    return weights


def _beside(file: WeightFile) -> _Weights:
    weights = _Weights()
    for name in _shard_names(file, file.start(strict_json.MAX_BYTES + 1)):
        with neighbour(file, name) as shard:
            part = _gather(hdf5.walk(shard))
            part.arrays = {path: _reopened(file, name, shard, array) for path, array in part.arrays.items()}
        _merge(file, weights, part)
    return weights


def _shard_names(file: WeightFile, listing: bytes) -> list[str]:
    stated = _object(file, strict_json.parse(file, listing)).get("weight_map")
    named = [
        part for value in _object(file, stated).values() for part in (value if isinstance(value, list) else [value])
    ]
    if not all(isinstance(name, str) for name in named) or len(set(named)) > _MAX_SHARDS:
        raise file.damaged("an index with shards that are not file names")
    return sorted(set(named))


def _reopened(file: WeightFile, name: str, shard: WeightFile, array: Array) -> Array:
    """An array of a shard; the shard is opened again whenever the array is loaded."""

    def load() -> Tensor:
        with neighbour(file, name, shard) as again:
            return hdf5.walk(again).arrays[array.path].load()

    return hdf5.Array(array.path, array.shape, array.dtype, load)


def _gather(found: Hdf5) -> _Weights:
    groups = [group for group in found.groups if group.split("/")[-1] == "vars"]
    names = {group[: -len("/vars")]: found.attribute(group, "name") for group in groups}
    return _Weights(found.arrays, {path: name for path, name in names.items() if isinstance(name, str)})


def _merge(file: WeightFile, weights: _Weights, part: _Weights) -> None:
    twice = weights.arrays.keys() & part.arrays.keys()  # which of both is meant depends on the order of reading
    if twice:
        raise file.damaged(f"two shards contain {min(twice)!r}")
    weights.arrays.update(part.arrays)
    weights.names.update(part.names)


def _source(file: WeightFile, kind: str, model: Mapping[str, Any], weights: _Weights) -> Source:
    layers = graph(file, model) if is_model(model) else ()
    known = places(model) if layers else {}
    dropped = {path: why for path in weights.arrays if (why := _no_part(path, weights))}
    groups = defaultdict[str, list[str]](list)
    for path in sorted(weights.arrays.keys() - dropped.keys(), key=file_order):
        groups[path.rpartition("/vars")[0].rstrip("/")].append(path)
    notes = list(code_in(model))
    ranks = _ranks(layers, known)
    found: list[tuple[tuple[int, int], SourceTensor]] = []
    for group, paths in groups.items():
        place = _place(group, known, weights.names)
        named = leaves(place.kind, len(paths), place.config)
        unit = place.unit or "the model itself"
        # A network that is a class is stored by the names of its attributes, which do not show classes of layers.
        if place.config is None and not is_known(place.kind):
            named = leaves_by_shape([weights.arrays[path].shape for path in paths])
            if "" not in named:
                notes.append(
                    f"The file does not state the class of {unit!r}: its variables were identified by shape, as "
                    f"{', '.join(named)}."
                )
        if "" in named:
            notes.append(f"The {len(paths)} variables of {unit!r} are stored by number; their names are unknown.")
        for path, leaf in zip(paths, named, strict=True):
            array = weights.arrays[path]
            whole = f"{place.prefix}/{leaf}" if place.prefix and leaf else leaf
            tensor = SourceTensor(path, array.shape, array.dtype, place.unit, whole, array.load)
            found.append((ranks(group, place.unit), tensor))
    is_placed = bool(layers) and all(rank != _UNKNOWN for rank, _ in found)
    if is_placed:
        found.sort(key=lambda item: item[0])
    order = "graph" if is_placed else _order(groups, weights.names)
    hidden = len(notes) - _MAX_NOTES
    shown = notes[:_MAX_NOTES] + ([f"There are {hidden} more notes of this kind."] if hidden > 0 else [])
    inputs, outputs = ends(file, model) if layers else ((), ())
    kept = tuple(tensor for _, tensor in found)
    return Source(kind, "keras", kept, order, layers, MappingProxyType(dropped), tuple(shown), inputs, outputs)


def _order(groups: Iterable[str], names: Mapping[str, str]) -> str:
    """What the order of a file without its graph means, as `Source.order`; a list of layers is in order of creation."""
    if all(is_counted(group, names) for group in groups):
        return "layers"
    return "made" if any(group.startswith("layers/") for group in groups) else "numbers"


def _ranks(layers: tuple[SourceLayer, ...], known: Mapping[str, Place]) -> Callable[[str, str], tuple[int, int]]:
    """A function that returns the sort key of a group of variables: the rank of its layer, then its rank in it."""
    of_layer: dict[str, int] = {}
    for number, layer in enumerate(layers):
        of_layer.setdefault(layer.unit or layer.name, number)
    of_group = {path: number for number, path in enumerate(known)}

    def rank(group: str, unit: str) -> tuple[int, int]:
        while unit and unit not in of_layer:  # parts of a layer that is a network stand where the whole stands
            unit = unit.rpartition("/")[0]
        return (of_layer[unit], of_group.get(modern(group), len(of_group))) if unit else _UNKNOWN

    return rank


def _place(group: str, known: Mapping[str, Place], names: Mapping[str, str]) -> Place:
    """The place of a group of variables in the configuration, unless the name attached to the group contradicts it."""
    path = modern(group)
    while path and path not in known:
        path = path.rpartition("/")[0]
    place = known.get(path)
    attached = names.get(path) if path.split("/")[-2:-1] == ["layers"] else None
    if place is None or (attached and attached != _last(place.unit)):
        return place_without_config(group, names.get)
    if path == modern(group):
        return place
    inner = place_without_config(group, names.get)
    return Place(place.unit + modern(group)[len(path) :], inner.kind, None, inner.prefix)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _no_part(path: str, weights: _Weights) -> str | None:
    """The drop class of an array; None if it is part of the network."""
    parts = path.split("/")
    attached = weights.names.get("/".join(parts[:-2])) or ""
    if parts[0] == "optimizer":
        return "optimizer slot"
    if parts[0] == "metrics":
        return "counter"
    if any(part.startswith("seed_generator") for part in parts) or attached.startswith("seed_generator"):
        return "random state"
    return None


def _object(file: WeightFile, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise file.damaged("a JSON value that is not an object")
    return value
