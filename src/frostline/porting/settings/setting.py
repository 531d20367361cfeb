"""One setting of the file compared with that of the module, and how to make them equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from frostline.porting.certificate import Check

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

_SHOWN = 4  # causes listed in one message
AGREES, DIFFERS, SET, UNKNOWN = "agrees", "differs", "set", "unknown"


@dataclass(frozen=True)
class Setting:
    """The comparison of one setting.

    Attributes:
        check: The result, for the certificate.
        module: The module whose attribute can be set; None if the setting cannot be changed in place.
        attribute: The name of the attribute.
        value: The value in the file.
        is_seen: Whether a difference changes outputs in evaluation mode (padding does, momentum does not).
        is_rare: Whether a difference changes outputs for some inputs only (masks), so that a run cannot exclude it.
    """

    check: Check
    module: nn.Module | None = None
    attribute: str = ""
    value: Any = None
    is_seen: bool = True
    is_rare: bool = False


def number(layer: str, name: str, module: nn.Module, attribute: str, value: float, *, is_seen: bool = False) -> Setting:
    """Compare a number of the file with an attribute of a module, which can be set to it."""
    own = getattr(module, attribute)
    is_same = isinstance(own, (int, float)) and math.isclose(own, value, rel_tol=1e-5, abs_tol=1e-12)
    text = f"{value:g} in both" if is_same else f"{_shown(own)} in the module, {value:g} in the file"
    check = Check(layer, name, AGREES if is_same else DIFFERS, text)
    return Setting(check, module, attribute, value, is_seen)


def fixed(layer: str, name: str, own: Any, stated: Any, remedy: str = "") -> Setting:
    """Compare a value of the file with one of the module that cannot be changed in place."""
    is_same = own == stated
    text = f"{_shown(stated)} in both" if is_same else f"{_shown(own)} in the module, {_shown(stated)} in the file"
    return Setting(
        Check(layer, name, AGREES if is_same else DIFFERS, text + ("" if is_same or not remedy else f": {remedy}"))
    )


def described(
    layer: str, name: str, status: str, text: str, *, is_seen: bool = True, is_rare: bool = False
) -> Setting:  # fmt: skip
    """A setting whose comparison is described in words."""
    return Setting(Check(layer, name, status, text), is_seen=is_seen, is_rare=is_rare)


def set_equal(settings: Iterable[Setting], undo: ExitStack) -> tuple[Check, ...]:
    """Set the attributes of the module that differ to the values of the file.

    Args:
        settings: The comparisons.
        undo: Receives the callbacks that restore the previous values.

    Returns:
        One check for each value that was set.
    """
    done: list[Check] = []
    for one in settings:
        if one.check.status == DIFFERS and one.module is not None:
            before = getattr(one.module, one.attribute)
            setattr(one.module, one.attribute, one.value)
            undo.callback(setattr, one.module, one.attribute, before)
            done.append(
                replace(
                    one.check,
                    status=SET,
                    text=f"{_shown(one.value)} as in the file, {_shown(before)} before",
                    attribute=one.attribute,
                    value=one.value,
                )
            )
    return tuple(done)


def checks_of(settings: Iterable[Setting], done: Iterable[Check], *, has_run: bool) -> tuple[Check, ...]:
    """The checks for the certificate, without those that a successful run has settled."""
    found = {(check.layer, check.setting): check for check in done}
    for one in settings:
        if one.check.status == AGREES or one.is_rare or not (has_run and one.is_seen):
            found.setdefault((one.check.layer, one.check.setting), one.check)
    return tuple(found.values())


def causes_of(settings: Iterable[Setting]) -> str:
    """Settings that may explain different outputs, as text; empty if there are none."""
    parts: list[str] = []
    for one in settings:
        if one.check.status in (DIFFERS, UNKNOWN) and one.is_seen:
            remedy = " (adapt=True sets it)" if one.module is not None else ""
            parts.append(f"{one.check.setting} of {one.check.layer!r}: {one.check.text}{remedy}")
    more = f"; and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return "; ".join(parts[:_SHOWN]) + more


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return repr(value) if isinstance(value, str) else str(value)
