"""The places of the source that make errors, and the tests that show each of them."""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "frostline"
_PARTS = ("what", "where", "received", "do")
_LABELS = dict(zip(_PARTS, ("", "Where:    ", "Received: ", "Do:       "), strict=True))
_SHARE = 0.8  # of the words that a test expects, which an error's text has to have
_FEWEST, _LONGEST = 3, 300  # words and characters of a string that is looked at


@dataclass(frozen=True)
class ErrorSite:
    """One place of the source that makes an error.

    Attributes:
        path: The file.
        first: The first line of the call.
        last: Its last line.
        kind: The class of the error.
        text: Its four parts, as they are printed; what is computed stands in angle brackets.
    """

    path: Path
    first: int
    last: int
    kind: str
    text: str

    @property
    def digest(self) -> str:
        """The name of the error in `error_examples.json`."""
        return hashlib.sha256(f"{self.kind}\n{self.text}".encode()).hexdigest()[:12]


def error_sites() -> list[ErrorSite]:
    """All of them, file by file."""
    return [site for path in sorted(SOURCE.rglob("*.py")) for site in _sites_in(path)]


def _sites_in(path: Path) -> Iterator[ErrorSite]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            parts = {one.arg: one.value for one in node.keywords if one.arg in _PARTS}
            if node.func.id[0].isupper() and set(parts) == set(_PARTS):
                text = "\n".join(_LABELS[name] + _text(parts[name]) for name in _PARTS)
                yield ErrorSite(path, node.lineno, node.end_lineno or node.lineno, node.func.id, text)


def _text(node: ast.expr) -> str:
    """A text of the source; what is computed stands in angle brackets."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(value) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"<{_name(node.value)}>"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} / {_text(node.orelse)}"
    return f"<{_name(node)}>"


def _name(node: ast.expr) -> str:
    """A word for a computed part: the first name in it that is no function or method of Python itself."""
    names = [one.attr if isinstance(one, ast.Attribute) else one.id for one in ast.walk(node)
             if isinstance(one, (ast.Attribute, ast.Name))]  # fmt: skip
    python = {*dir(builtins), *dir(str), *dir(list), *dir(dict), "self", "__name__", "value"}
    known = [name.strip("_") for name in names if name not in python and len(name.strip("_")) > 1]
    return (known or ["value"])[0].replace("_", " ")


def situations() -> dict[str, str]:
    """The test (`tests/data/test_images.py::test_...`) that expects the text of each error, by the error's digest.

    A test expects a text if it holds a string with words of its first line. Of several tests that of the file that
    mirrors the source is taken, and the one with most words.
    """
    expected = [
        (words, test) for path in sorted((ROOT / "tests").rglob("test_*.py")) for words, test in _expected(path)
    ]
    found: dict[str, str] = {}
    for site in error_sites():
        own = _words(site.text.split("\n")[0])
        mirror = str(site.path.relative_to(SOURCE).parent / f"test_{site.path.name}")
        fitting = [
            (test.startswith(f"tests/{mirror}"), len(words), test)
            for words, test in expected if len(words & own) >= max(_FEWEST, _SHARE * len(words))
        ]  # fmt: skip
        if fitting:
            found[site.digest] = max(fitting)[2]
    return found


def _expected(path: Path) -> Iterator[tuple[set[str], str]]:
    """The words of each string in each test of a file, with the test."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and len(inner.value) < _LONGEST:
                    words = _words(inner.value)
                    if len(words) >= _FEWEST:
                        yield words, f"{path.relative_to(ROOT)}::{node.name}"


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))
