"""TensorFlow checkpoints and SavedModels: the variables, without the graph that uses them.

There are two naming schemes. Checkpoints of TensorFlow 1 contain the names of graph variables (`fc1/weights`),
including optimizer slots. Those of TensorFlow 2 contain paths of objects; the names are in an object graph in the
checkpoint. The leaves of Keras layers (`kernel`, `gamma`, `moving_mean`) have the same meaning and layout in both; the
order of the gates of recurrent cells differs.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from frostline.porting.readers.averages import REPLACED_BY_AVERAGE
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.leveldb import is_table, table
from frostline.porting.readers.object_graph import KEY, SUFFIX, objects
from frostline.porting.readers.saved_model import architecture
from frostline.porting.readers.source_names import AVERAGE_LEAF, by_numbers, keras_place, role_by_name, unit_and_leaf
from frostline.porting.readers.tensor_bundle import DT_STRING, DTYPE_NAMES, bundle
from frostline.porting.readers.tensor_data import check_names
from frostline.porting.readers.tensor_slices import is_first_version, tensor_slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.core.errors import PortError
    from frostline.porting.readers.contract import SourceLayer
    from frostline.porting.readers.object_graph import Variable
    from frostline.porting.readers.tensor_bundle import Bundle, Entry
    from frostline.porting.readers.weight_file import WeightFile

HAS_ENTRIES = True
# Sequential and functional Keras models number the layers in their list; other paths consist of attribute names.
_COUNTED = re.compile(r"(^|/)(layer_with_weights-|_operations/)\d")
_KERAS_COPIES = "_all_variables/"  # Keras 3 exports every variable a second time under this prefix
_KERAS_LEAVES = frozenset(
    {"kernel", "gamma", "beta", "moving_mean", "moving_variance", "embeddings", "depthwise_kernel", "pointwise_kernel",
     "recurrent_kernel"}
)  # fmt: skip


def claims(file: WeightFile) -> bool:
    """Whether the file is the index of a checkpoint."""
    return is_table(file)


def read(file: WeightFile, key: str | None = None) -> Source:
    """Read a checkpoint.

    Args:
        file: The `.index` file (for a SavedModel `variables/variables.index`); for version 1 the only file.
        key: "ExponentialMovingAverage" selects the moving averages instead of the variables in a checkpoint of
            TensorFlow 1 with both.

    Raises:
        PortError: If the checkpoint is damaged, or does not contain the entry `key`.
    """
    rows = table(file)
    found = tensor_slices(file, rows) if is_first_version(file, rows) else bundle(file, rows)
    check_names(file, list(found.entries))
    weights = {name: entry for name, entry in found.entries.items() if entry.dtype in DTYPE_NAMES}
    if KEY in found.entries and found.entries[KEY].dtype == DT_STRING:
        if key is not None:
            raise _no_entry(file, key, 0)
        return _of_objects(found, weights)
    return _of_names(found, weights, key)


def _of_names(found: Bundle, weights: Mapping[str, Entry], key: str | None) -> Source:
    dropped = {name: "text" for name in found.entries if name not in weights}
    for name, entry in weights.items():
        if role := role_by_name(name, entry.shape, weights):
            dropped[name] = role
    averages = {name: unit_and_leaf(name)[0] for name, role in dropped.items() if role == "moving average"}
    chosen = {name: name for name in weights if name not in dropped}
    notes = ["Variables have the names of a TensorFlow 1 graph; leaves with names of Keras have its layouts."]
    if key is not None:
        chosen, note = _averaged(found.file, chosen, averages, key)
        for name, base in averages.items():
            if base in found.entries:
                dropped[base] = REPLACED_BY_AVERAGE
            dropped.pop(name)
        notes.append(note)
    elif averages:
        notes.append(
            f"The file also contains moving averages of {len(averages)} variables, which were left out; "
            f"the key {AVERAGE_LEAF!r} selects them."
        )
    tensors = [_tensor(found, entry, *unit_and_leaf(chosen[name])) for name, entry in weights.items() if name in chosen]
    tensors.sort(key=lambda tensor: by_numbers(tensor.name))
    return Source(
        "TensorFlow checkpoint", "tensorflow", tuple(tensors), order="numbers", dropped=dropped, notes=tuple(notes)
    )


def _averaged(
    file: WeightFile, chosen: Mapping[str, str], averages: Mapping[str, str], key: str
) -> tuple[dict[str, str], str]:
    """The names of the averages in the file, with the names of their variables."""
    if key != AVERAGE_LEAF or not averages:
        raise _no_entry(file, key, len(averages))
    averaged = set(averages.values())
    kept = {name: name for name in chosen if name not in averaged}
    note = f"{len(averages)} variables were taken from their moving averages; {len(kept)} have no average."
    return {**kept, **averages}, note


def _no_entry(file: WeightFile, key: str, num_averages: int) -> PortError:
    return file.refused(
        "The checkpoint does not contain the requested entry.",
        f"the key {key!r}, for a file with {num_averages} moving averages",
        f"leave the key out, or pass {AVERAGE_LEAF!r} for a checkpoint that contains moving averages.",
    )


def _of_objects(found: Bundle, weights: Mapping[str, Entry]) -> Source:
    graph = objects(found.file, found.text(KEY))
    dropped = {name: "text" for name in found.entries if name not in weights and name != KEY}
    dropped |= {name: "optimizer slot" for name in weights if name in graph.others}
    network = [variable for variable in graph.variables if variable.key in weights]
    originals = {_identity(weights, v): v.key for v in network if not v.path.startswith(_KERAS_COPIES)}
    variables: list[Variable] = []
    for variable in network:
        if role := role_by_name(variable.full_name or variable.path, weights[variable.key].shape, ()):
            dropped[variable.key] = role
        elif variable.path.startswith(_KERAS_COPIES) and (original := originals.get(_identity(weights, variable))):
            dropped[variable.key] = f"copy of {original.removesuffix(SUFFIX)}"
        else:
            variables.append(variable)
    known = {variable.key for variable in network}
    dropped |= {name: "of no object" for name in weights if name not in known and name not in dropped}
    return _assembled(found, weights, variables, dropped, graph.is_keras)


def _identity(weights: Mapping[str, Entry], variable: Variable) -> tuple[object, ...]:
    entry = weights[variable.key]
    return variable.full_name, entry.dtype, entry.shape, entry.crc


def _assembled(
    found: Bundle,
    weights: Mapping[str, Entry],
    variables: Sequence[Variable],
    dropped: Mapping[str, str],
    is_keras: bool,
) -> Source:
    times = Counter(variable.full_name for variable in variables)
    tensors: list[SourceTensor] = []
    for variable in sorted(variables, key=lambda variable: by_numbers(variable.path)):
        unit, leaf = unit_and_leaf(variable.full_name)
        if not unit or times[variable.full_name] > 1:  # the name is missing or ambiguous, so the object path is used
            is_shared = times[variable.full_name] > 1
            unit, last = unit_and_leaf(variable.path)
            leaf = last.lstrip("_") if is_shared or not leaf else leaf
        tensors.append(_tensor(found, weights[variable.key], unit, leaf))
    if is_keras:
        units = {tensor.unit for tensor in tensors}
        places = [keras_place(tensor.unit, tensor.leaf, units) for tensor in tensors]
        tensors = [replace(t, unit=unit, leaf=leaf) for t, (unit, leaf) in zip(tensors, places, strict=True)]
        tensors = _without_model(tensors)
    is_keras = is_keras or any(tensor.leaf in _KERAS_LEAVES for tensor in tensors)
    notes = [
        "Names were read from the object graph in the checkpoint; leaves are those of "
        + ("Keras layers." if is_keras else "the modules' own variables.")
    ]
    if num_copies := sum(role.startswith("copy of") for role in dropped.values()):
        notes.append(f"{num_copies} variables are stored twice with equal bytes; one copy of each was taken.")
    framework = "keras" if is_keras else "tensorflow"
    stated = architecture(found.file)
    layers = stated.layers
    is_counted = all(_COUNTED.search(variable.path) for variable in variables)
    order = "graph" if layers else "layers" if is_keras and is_counted else "made" if is_keras else "numbers"
    tensors = _by_layers(tensors, layers)
    roles = {name.removesuffix(SUFFIX): role for name, role in dropped.items()}
    return Source(
        "TensorFlow checkpoint", framework, tuple(tensors), order=order, layers=layers, dropped=roles,
        inputs=stated.inputs, outputs=stated.outputs, notes=(*notes, *stated.notes),
    )  # fmt: skip


def _by_layers(tensors: Sequence[SourceTensor], layers: Sequence[SourceLayer]) -> list[SourceTensor]:
    """The tensors in the order of their layers; the names of variables do not contain the nested model."""
    units = dict.fromkeys(layer.unit or layer.name for layer in layers)
    last = Counter(unit.rpartition("/")[2] for unit in units)
    whole = {name: unit for unit in units if last[name := unit.rpartition("/")[2]] == 1}
    rank = {layer.name: place for place, layer in reversed(list(enumerate(layers)))}
    named = [t if t.unit in rank else replace(t, unit=whole.get(t.unit, t.unit)) for t in tensors]
    return sorted(named, key=lambda tensor: rank.get(tensor.unit, len(rank)))


def _without_model(tensors: Sequence[SourceTensor]) -> list[SourceTensor]:
    """The tensors with units without the name of the outermost model, with which Keras 3 begins every name."""
    first = {tensor.unit.partition("/")[0] for tensor in tensors}
    if len(first) != 1 or any("/" not in tensor.unit for tensor in tensors):
        return list(tensors)
    return [replace(tensor, unit=tensor.unit.partition("/")[2]) for tensor in tensors]


def _tensor(found: Bundle, entry: Entry, unit: str, leaf: str) -> SourceTensor:
    name = entry.key.removesuffix(SUFFIX)
    return SourceTensor(name, entry.shape, DTYPE_NAMES[entry.dtype], unit, leaf, lambda: found.load(entry))
