"""Trees of JAX: which arrays belong to the network, and to which layer, by their path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from frostline.porting.readers.contract import Source, SourceTensor
from frostline.porting.readers.names import by_numbers

_COLLECTIONS = ("params", "batch_stats")
_OPTIMIZER = frozenset({"opt_state", "opt_states", "opt", "optimizer", "optimizer_state", "optim"})
_AVERAGES = frozenset({"ema", "ema_params", "params_ema", "ema_state", "ema_model"})
_RANDOM = frozenset({"rng", "rngs", "dropout_rng", "prng", "key"})


@dataclass(frozen=True)
class Place:
    """Where an array belongs.

    Attributes:
        unit: Its layer.
        leaf: What it is there.
        role: The class it is dropped in, if it is no weight.
        wrapper: What the tree of the network was found in.
    """

    unit: str
    leaf: str
    role: str | None = None
    wrapper: str = ""


def place(path: Sequence[str], shape: Sequence[int], dtype: str) -> Place:
    """Where the array at `path` belongs.

    Args:
        path: Keys from the root.
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
    """The network among the arrays of a tree; None if `key` leads to none.

    Args:
        kind: The format, for people.
        arrays: By path; unit and leaf are set here.
        key: The part of the tree to take (`ema_params`), whatever it is; None for the network's own.
        notes: Further ones.
    """
    prefix = tuple(key.split("/")) if key else ()
    dropped: dict[str, str] = {}
    tensors: list[SourceTensor] = []
    wrappers: set[str] = set()
    for path, tensor in arrays.items():
        if prefix and path[: len(prefix)] != prefix:
            dropped[tensor.name] = f"not part of {key!r}"
            continue
        where = place(path[len(prefix) :] or path[-1:], tensor.shape, tensor.dtype)
        if where.role is not None:
            dropped[tensor.name] = where.role
            continue
        wrappers.add(where.wrapper)
        tensors.append(SourceTensor(tensor.name, tensor.shape, tensor.dtype, where.unit, where.leaf, tensor.load))
    if prefix and not tensors:
        return None
    tensors.sort(key=lambda tensor: by_numbers(f"{tensor.unit}/{tensor.leaf}"))
    found = [f"The network was found in {wrapper!r}." for wrapper in sorted(wrappers - {""})]
    if "moving average" in dropped.values():
        found.append("The tree holds moving averages too, which were left out; with their key they are taken.")
    return Source(
        kind, "flax", tuple(tensors), order="numbers", dropped=MappingProxyType(dropped), notes=(*notes, *found)
    )
