"""JAX trees: the layer of each array by its path, and arrays that are not part of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from frostline.porting.readers import haiku
from frostline.porting.readers.averages import REPLACED_BY_AVERAGE, is_average
from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.source_names import by_numbers

_COLLECTIONS = ("params", "batch_stats")
_OPTIMIZER = frozenset({"opt_state", "opt_states", "opt", "optimizer", "optimizer_state", "optim"})
_AVERAGES = frozenset({"ema", "ema_params", "params_ema", "ema_state", "ema_model"})
_RANDOM = frozenset({"rng", "rngs", "dropout_rng", "prng", "key"})


@dataclass(frozen=True)
class Place:
    """The place of an array in the network.

    Attributes:
        unit: Its layer.
        leaf: Its role in the layer.
        role: Its drop class; None for weights.
        wrapper: The entry that contains the tree of the network.
    """

    unit: str
    leaf: str
    role: str | None = None
    wrapper: str = ""


def place(path: Sequence[str], shape: Sequence[int], dtype: str) -> Place:
    """The place of the array at `path`.

    Args:
        path: The keys from the root.
        shape: Its shape; counters have no axes.
        dtype: Its dtype; random states are integers.
    """
    parts = list(path[:-1]) if path[-1] == "value" and len(path) > 1 else list(path)  # a variable of NNX
    start = next((k for k, part in enumerate(parts[:-1]) if part in _COLLECTIONS or part == "target"), None)
    before = parts if start is None else parts[:start]
    inner = parts if start is None else parts[start + 1 :]
    while len(inner) > 1 and inner[0] in _COLLECTIONS:
        inner = inner[1:]
    if any(part in _OPTIMIZER for part in before[: None if start is not None else -1]) and "target" not in parts:
        return Place("", "", "optimizer slot")
    if any(part in _AVERAGES for part in before):
        return Place("", "", "moving average")
    if len(shape) == 0 and start is None:
        return Place("", "", "counter")
    if parts[-1] in _RANDOM and dtype.startswith("uint"):
        return Place("", "", "random state")
    return Place("/".join(inner[:-1]), inner[-1], None, "/".join(before) if start is not None else "")


def source(
    kind: str, arrays: Mapping[tuple[str, ...], SourceTensor], key: str | None, notes: Sequence[str] = ()
) -> Source | None:
    """The network among the arrays of a tree; None if no array is under `key`.

    Args:
        kind: The name of the format, for messages.
        arrays: The arrays by path; their units and leaves are set here.
        key: The part of the tree to select (`ema_params`); None selects the parameters of the network.
        notes: Further notes.
    """
    prefix = tuple(key.split("/")) if key else ()
    wanted = {path: path[len(prefix) :] or path[-1:] for path in arrays if path[: len(prefix)] == prefix}
    places = {path: place(own, arrays[path].shape, arrays[path].dtype) for path, own in wanted.items()}
    dropped: dict[str, str] = {}
    beside = {path: place(path, one.shape, one.dtype) for path, one in arrays.items() if path not in wanted}
    averaged = {(where.unit, where.leaf) for where in places.values()}
    twins = {path for path, where in beside.items() if not where.role and (where.unit, where.leaf) in averaged}
    is_of_weights = bool(twins) and key is not None and is_average(key.rpartition("/")[2])
    for path, where in beside.items():
        if is_of_weights and path not in twins and where.role is None:
            places[path] = where  # such as batch statistics, for which trainers keep no averages
        elif is_of_weights:
            dropped[arrays[path].name] = where.role or REPLACED_BY_AVERAGE
        else:
            dropped[arrays[path].name] = f"not part of {key!r}"
    tensors: list[SourceTensor] = []
    wrappers: set[str] = set()
    for path, where in places.items():
        tensor = arrays[path]
        if where.role is not None:
            dropped[tensor.name] = where.role
            continue
        wrappers.add(where.wrapper)
        tensors.append(SourceTensor(tensor.name, tensor.shape, tensor.dtype, where.unit, where.leaf, tensor.load))
    if prefix and not tensors:
        return None
    tensors.sort(key=lambda tensor: by_numbers(f"{tensor.unit}/{tensor.leaf}"))
    found = [f"The network was found in {wrapper!r}." for wrapper in sorted(wrappers - {""})]
    if is_of_weights:
        num_kept = len(places) - len(wanted)
        found.append(
            f"The parameters were taken from the moving average {key!r}"
            + (f"; {num_kept} arrays have no average and were taken unaveraged." if num_kept else ".")
        )
    elif "moving average" in dropped.values():
        found.append(
            "The tree also contains moving averages, which were left out; pass their entry as the key to select them."
        )
    framework, of_haiku = "flax", haiku.taken(tensors)
    if of_haiku is not None:
        framework, tensors = "haiku", list(of_haiku[0])
        dropped |= of_haiku[1]
        found.append(haiku.NOTE)
    return Source(
        kind, framework, tuple(tensors), order="numbers", dropped=MappingProxyType(dropped), notes=(*notes, *found)
    )
