"""Names in PyTorch's state dicts: the module of each tensor, without the prefixes that wrappers add."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from frostline.porting.readers.averages import WRAPPERS, is_average, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.readers.weight_file import WeightFile

# A compiled, sharded or checkpointed module keeps the original one in such an attribute, at any place in a name.
_INNER_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class StateDictNames:
    """The parsed names of a state dict.

    Attributes:
        places: The unit (module, joined by `/`) and the leaf of each tensor of the network, by its full name.
        dropped: The drop class of every tensor that is not part of the network, by full name.
        notes: One sentence for each wrapper that was removed, and for each choice that was made.
    """

    places: Mapping[str, tuple[str, str]]
    dropped: Mapping[str, str]
    notes: tuple[str, ...]


def named(file: WeightFile, names: Sequence[str], key: str | None = None) -> StateDictNames:
    """The modules that the tensors of a state dict belong to.

    Args:
        file: The file, for the error.
        names: Every name of the state dict, in its order.
        key: The prefix of the wanted names, such as `ema`; None selects the weights.

    Raises:
        PortError: If two tensors have the same name without wrappers, or no name begins with the key.
    """
    selected = select(file, names, key)
    parts = {
        name: [part for part in own.split(".") if part not in _INNER_WRAPPERS] for name, own in selected.own.items()
    }
    removed = {part for name in names for part in name.split(".") if part in _INNER_WRAPPERS}
    notes = [*selected.notes]
    while (first := _outer_wrapper(list(parts.values()))) is not None:
        removed.add(first)
        parts = {name: own[1:] for name, own in parts.items()}
    if removed:
        notes.append(
            f"The prefixes {', '.join(repr(part) for part in sorted(removed))} of wrappers were removed from the names."
        )
    places = {name: _place(own) for name, own in parts.items()}
    if len(set(places.values())) < len(places):
        twice, _ = Counter(places.values()).most_common(1)[0]
        raise file.damaged(f"two tensors named {'.'.join(twice)!r} after the prefixes of wrappers were removed")
    return StateDictNames(MappingProxyType(places), MappingProxyType(selected.dropped), tuple(notes))


def _outer_wrapper(parts: list[list[str]]) -> str | None:
    """The first part of all names, if it is the attribute in which a wrapper keeps its model."""
    firsts = {own[0] for own in parts if own}
    if len(firsts) != 1 or min(map(len, parts)) < 3:  # a model of one layer may have such a name itself
        return None
    (first,) = firsts
    return first if first in WRAPPERS or is_average(first) else None


def _place(parts: list[str]) -> tuple[str, str]:
    # The two factors of a weight norm belong to the layer whose weight is computed from them.
    at = parts.index("parametrizations") if "parametrizations" in parts else len(parts) - 1
    return "/".join(parts[:at]), ".".join(parts[at:])
