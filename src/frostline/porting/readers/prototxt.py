"""Protocol buffers in text format, in which Caffe describes networks: fields by name, each with all its values.

References:
    Protocol Buffers documentation, "Text Format Language Specification".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frostline.porting.readers.weight_file import WeightFile

MAX_DEPTH = 64
MAX_BYTES = 1 << 24
_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?P<word>[-+.\w]+)|(?P<mark>[{}<>\[\]:;,])"""
)
_CLOSING = {"{": "}", "<": ">"}


def parse(file: WeightFile) -> dict[str, list[Any]]:
    """Parse a text file.

    Returns:
        Fields by name; values are numbers, booleans, strings (also for names of enums), and mappings like this one.

    Raises:
        PortError: If the file is not in this format, or nested too deeply.
    """
    if file.size > MAX_BYTES:
        raise file.damaged(f"a text file of {file.size} bytes; the limit is {MAX_BYTES}")
    text = file.start(MAX_BYTES).decode(errors="replace")
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise file.damaged(f"unexpected {text[at : at + 20]!r} in a network in text format")
        at = found.end()
        if found.lastgroup:
            tokens.append(found[0])
    message, end = _message(file, tokens, 0, "", 0)
    if end != len(tokens):
        raise file.damaged(f"unexpected {tokens[end]!r} after the end of a network in text format")
    return message


def _message(
    file: WeightFile, tokens: list[str], at: int, closing: str, depth: int
) -> tuple[dict[str, list[Any]], int]:
    """The message from `at` up to the token `closing`, and the position of that token."""
    if depth > MAX_DEPTH:
        raise file.damaged(f"a network in text format that is nested more than {MAX_DEPTH} levels deep")
    found: dict[str, list[Any]] = {}
    while at < len(tokens) and tokens[at] not in ("}", ">"):
        name, at = tokens[at], at + 1
        if name in (";", ","):
            continue
        if at < len(tokens) and tokens[at] == ":":
            at += 1
        values, at = _values(file, tokens, at, depth)
        found.setdefault(name, []).extend(values)
    if closing and (at >= len(tokens) or tokens[at] != closing):
        raise file.damaged(f"a network in text format in which {closing!r} is missing")
    return found, at


def _values(file: WeightFile, tokens: list[str], at: int, depth: int) -> tuple[list[Any], int]:
    if at >= len(tokens):
        raise file.damaged("a network in text format that ends after the name of a field")
    if tokens[at] in _CLOSING:
        message, at = _message(file, tokens, at + 1, _CLOSING[tokens[at]], depth + 1)
        return [message], at + 1
    if tokens[at] == "[":
        end = next((k for k in range(at, len(tokens)) if tokens[k] == "]"), None)
        if end is None:
            raise file.damaged("a network in text format with a list that does not end")
        return [_plain(token) for token in tokens[at + 1 : end] if token != ","], end + 1
    if not tokens[at][0].isalnum() and tokens[at][0] not in "\"'-+._":
        raise file.damaged(f"{tokens[at]!r} instead of a value in a network in text format")
    return [_plain(tokens[at])], at + 1


def _plain(token: str) -> Any:
    if token[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    if token in ("true", "false"):
        return token == "true"
    for kind in (int, float):
        try:
            return kind(token)
        except ValueError:
            continue
    return token
