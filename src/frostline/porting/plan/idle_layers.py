"""Layers of the module that have no part in its outputs: frameworks that save a graph of values leave them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from frostline.porting.assignment.matching import Ambiguity

_SHOWN = 3


def in_excess(opened: Iterable[Ambiguity], idle: Collection[str]) -> set[str]:
    """The layers without which as many are left in a group as the file has.

    Args:
        opened: Groups of layers that are not told.
        idle: Layers of the module that have no part in its outputs.
    """
    found: set[str] = set()
    for one in opened:
        own = {name for name in one.targets if name in idle}
        if own and len(one.targets) - len(own) == len(one.sources):
            found |= own
    return found


def note(names: Iterable[str], idle: Collection[str]) -> str:
    """What a refusal adds where some of these layers have no part in the outputs; empty if none is."""
    own = [repr(name) for name in names if name in idle]
    if not own:
        return ""
    more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
    have = "have" if len(own) > 1 else "has"
    return f"; {', '.join(own[:_SHOWN])}{more} {have} no part in the outputs of the module"


def remedy(idle: Iterable[str]) -> str:
    """What to do if nothing but these layers is in excess."""
    names = [repr(name) for name in sorted(idle)]
    return f"take {', '.join(names[:_SHOWN])} out of the module; or let the module keep them as they are: partial=True."
