"""Layers of the module that its outputs do not depend on: files of graphs (ONNX) do not contain them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from frostline.porting.assignment.matching import Ambiguity

_SHOWN = 3


# An ONNX file has no layer that its outputs do not use, while a module may hold some (a second head): these would
# make the counts differ for no fault of the weights.
def in_excess(opened: Iterable[Ambiguity], idle: Collection[str]) -> set[str]:
    """The idle layers of groups that have as many layers as the file without them.

    Args:
        opened: Groups of layers that are not assigned.
        idle: Layers of the module that its outputs do not depend on.
    """
    found: set[str] = set()
    for one in opened:
        own = {name for name in one.targets if name in idle}
        if own and len(one.targets) - len(own) == len(one.sources):
            found |= own
    return found


def note(names: Iterable[str], idle: Collection[str]) -> str:
    """A clause for an error text that names the idle ones of these layers; empty if there are none."""
    own = [repr(name) for name in names if name in idle]
    if not own:
        return ""
    more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
    return f"; the outputs of the module do not depend on {', '.join(own[:_SHOWN])}{more}"


def remedy(idle: Iterable[str]) -> str:
    """The remedy if the module has these layers in excess, and no others."""
    names = [repr(name) for name in sorted(idle)]
    return f"remove {', '.join(names[:_SHOWN])} from the module; or pass partial=True, which leaves them unchanged."
