"""JSON from untrusted files: duplicate names are refused, size and depth are bounded."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

MAX_BYTES = 1 << 25  # the configuration of the largest public Keras model takes 1 MB, a header of 10,000 tensors 1.5 MB
_MAX_DEPTH = 200
_MAX_BRACKETS = 1_200_000  # a header of 200,000 tensors
_STRING = re.compile(rb'"[^"]*"')
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def parse(file: WeightFile, text: bytes) -> Any:
    """Parse JSON.

    Args:
        file: The file, for the error.
        text: JSON in UTF-8.

    Raises:
        PortError: If `text` is not JSON, has a name twice in one object, or is too long or nested too deeply.
    """
    if len(text) > MAX_BYTES:
        raise file.damaged(f"{len(text)} bytes of JSON; the limit is {MAX_BYTES}")
    brackets = _brackets(text)
    if len(brackets) > _MAX_BRACKETS:
        raise file.damaged(f"JSON with {len(brackets)} brackets; the limit is {_MAX_BRACKETS}")
    if _depth(brackets) > _MAX_DEPTH:
        raise file.damaged(f"JSON nested more than {_MAX_DEPTH} levels deep")
    try:
        return json.loads(text.decode(), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:  # invalid JSON and invalid UTF-8 both raise ValueError
        raise file.damaged(f"invalid JSON: {str(error)[:200]}") from error


def _brackets(text: bytes) -> bytes:
    """The brackets outside of strings."""
    unescaped = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return _STRING.sub(b"", unescaped).translate(None, _ALL_BUT_BRACKETS)


def _depth(brackets: bytes) -> int:
    """The largest nesting depth of the brackets."""
    depth = deepest = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:60]!r} occurs twice in one object")
        found[name] = value
    return found
