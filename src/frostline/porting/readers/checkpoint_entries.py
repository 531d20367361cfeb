"""The entry of a trainer's checkpoint that holds the weights, and the drop classes of all other entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from frostline.core.errors import nearest
from frostline.porting.readers.numpy_pickles import LazyArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from frostline.porting.readers.weight_file import WeightFile

    Entries = dict[Any, Any]
    ArrayOf = Callable[[object], LazyArray | None]

# The usual entries. The first one that exists is taken: the trained weights come before their averages.
KEYS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module",
        "teacher", "state_dict_ema", "model_ema", "params_ema", "ema")  # fmt: skip
_MAX_DEPTH = 12
_MAX_VISITS = 2_000_000
# The drop class of arrays beside the weights, by a substring of the entry name.
_CLASSES = (("optim", "optimizer slot"), ("momentum", "optimizer slot"), ("ema", "moving average"),
            ("average", "moving average"), ("swa", "moving average"), ("rng", "random state"),
            ("random", "random state"), ("step", "counter"), ("epoch", "counter"))  # fmt: skip


class CheckpointWeights(NamedTuple):
    """The weights of a checkpoint.

    Attributes:
        tensors: The arrays by name, in the order of the file.
        dropped: The drop class of every other array, by full name.
        notes: A sentence for each entry that was opened.
        prefix: The prefix of the wanted names in `tensors`; None selects the weights.
    """

    tensors: dict[str, LazyArray]
    dropped: dict[str, str]
    notes: tuple[str, ...]
    prefix: str | None = None


def find_weights(file: WeightFile, whole: object, key: str | None, array_of: ArrayOf) -> CheckpointWeights:
    """Find the weights among the entries of a checkpoint.

    Args:
        file: The file, for errors.
        whole: The value of the whole file.
        key: The entry that holds the weights, with dots between nested entries; or the prefix of the weights' names.
            With None the usual entries are searched.
        array_of: Returns the array that a value represents, or None.

    Raises:
        PortError: If the entry does not exist, or contains no arrays.
    """
    if not isinstance(whole, dict):
        raise file.refused(
            "The file contains no named tensors.", f"a value of type {_kind(whole)}",
            "where the file was made, save the tensors by name: torch.save(model.state_dict(), path).",
        )  # fmt: skip
    paths_with_arrays = list(_paths_with_arrays(cast("Entries", whole), array_of))
    path, prefix = _find_entry(file, cast("Entries", whole), key, [".".join(one) for one in paths_with_arrays])
    found = _at(cast("Entries", whole), path)
    notes: list[str] = []
    while (
        prefix is None and (name := next((one for one in KEYS if isinstance(found.get(one), dict)), None)) is not None
    ):
        path, found = (*path, name), found[name]
        if len(path) > _MAX_DEPTH:
            raise file.damaged(f"an entry {name!r} that contains itself")
        others = [
            repr(".".join(one))
            for one in paths_with_arrays
            if one[: len(path)] != path and _class_of(".".join(one)) not in ("optimizer slot", "random state")
        ]
        also = f" The file also contains {', '.join(others[:8])} (key=...)." if others else ""
        notes.append(f"The weights were taken from the entry {name!r}.{also}")
    tensors: dict[str, LazyArray] = {}
    for name, value in found.items():
        array = array_of(value)
        if array is not None:
            if str(name) in tensors:
                raise file.damaged(f"two tensors named {str(name)[:60]!r}")
            tensors[str(name)] = array
    if not tensors:
        raise file.refused(
            "The file contains no named tensors in the usual entries.",
            f"entries {', '.join(repr(str(one)[:60]) for one in list(found)[:8]) or 'of no name'}",
            f"name the entry: key={'.'.join(paths_with_arrays[0]) if paths_with_arrays else 'NAME'!r}; dots separate "
            "nested entries.",
        )  # fmt: skip
    return CheckpointWeights(tensors, _dropped(cast("Entries", whole), path, array_of), tuple(notes), prefix)


def _find_entry(
    file: WeightFile, whole: Entries, key: str | None, known: list[str]
) -> tuple[tuple[str, ...], str | None]:  # fmt: skip
    """The path of the entry that a key selects; if it selects flat names, their prefix.

    A key is searched at the top level, then in the usual entries, since some trainers nest `model_ema` in `state_dict`.
    """
    if key is None:
        return (), None
    path: tuple[str, ...] = ()
    found = whole
    while (resolved := _resolve(found, key)) is None:
        name = next((one for one in KEYS if isinstance(found.get(one), dict)), None)
        if name is None or len(path) > _MAX_DEPTH:
            raise file.refused(
                f"The file contains no weights under {key!r}.", repr(key),
                f"pass key= one of {nearest(key, known)}." if known else "leave out key=: the file has no entries.",
            )  # fmt: skip
        path, found = (*path, name), found[name]
    return (*path, *resolved[0]), resolved[1]


def _resolve(found: Entries, key: str) -> tuple[tuple[str, ...], str | None] | None:
    """The entries that a dotted key names (their names may contain dots), and the rest of the key for flat names."""
    path: list[str] = []
    left = key
    while left:
        inner = next(
            ((str(one), value) for one, value in found.items()
             if isinstance(value, dict) and (left == str(one) or left.startswith(f"{one}."))), None,
        )  # fmt: skip
        if inner is None:
            is_flat = any(str(one).startswith(f"{left}.") for one in found)
            return (tuple(path), left) if is_flat else None
        path.append(inner[0])
        found, left = cast("Entries", inner[1]), left[len(inner[0]) + 1 :]
    return tuple(path), None


def _kind(value: object) -> str:
    return getattr(value, "name", type(value).__name__)[:200]


def _entries(whole: Entries) -> Iterator[tuple[tuple[str, ...], Entries]]:
    """Every dict of a checkpoint with its path, the checkpoint first; a dict with several references occurs once."""
    stack: list[tuple[tuple[str, ...], Entries]] = [((), whole)]
    seen, visits = {id(whole)}, 0
    while stack:
        path, entries = stack.pop()
        yield path, entries
        inner: list[tuple[tuple[str, ...], Entries]] = []
        for name, value in entries.items():
            visits += 1
            if isinstance(value, dict) and id(value) not in seen and len(path) < _MAX_DEPTH and visits < _MAX_VISITS:
                seen.add(id(value))
                inner.append(((*path, str(name)), cast("Entries", value)))
        stack += reversed(inner)


def _paths_with_arrays(whole: Entries, array_of: ArrayOf) -> Iterator[tuple[str, ...]]:
    """Paths of the entries that contain arrays, except the checkpoint as a whole."""
    for path, entries in _entries(whole):
        if path and any(array_of(value) is not None for value in entries.values()):
            yield path


def _at(whole: Entries, path: tuple[str, ...]) -> Entries:
    for name in path:
        whole = next(value for one, value in whole.items() if str(one) == name)
    return whole


def _dropped(whole: Entries, chosen: tuple[str, ...], array_of: ArrayOf) -> dict[str, str]:
    """The arrays of all other entries, with their drop classes."""
    found: dict[str, str] = {}
    for path, entries in _entries(whole):
        if path == chosen:
            continue
        for name, value in entries.items():
            if array_of(value) is not None:
                whole_name = ".".join((*path, str(name)))
                found[whole_name] = _class_of(whole_name)
    return found


def _class_of(name: str) -> str:
    return next((kind for part, kind in _CLASSES if part in name.lower()), "another entry of the checkpoint")
