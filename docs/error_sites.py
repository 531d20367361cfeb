"""The places of the source that make errors, and the tests that show each of them."""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
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
        pattern: A regular expression of all texts that it can print.
    """

    path: Path
    first: int
    last: int
    kind: str
    text: str
    pattern: str

    @property
    def digest(self) -> str:
        """The name of the error in `error_examples.json`: it changes with the fixed words, and with nothing else."""
        fixed = re.sub(r"<[^>]*>", "<>", self.text)
        return hashlib.sha256(f"{self.kind}\n{fixed}".encode()).hexdigest()[:12]

    def is_text_of(self, text: str) -> bool:
        """Whether this place can print the text: its fixed words are there, in their order."""
        return re.fullmatch(self.pattern, text, re.S) is not None


@dataclass(frozen=True)
class _Maker:
    """A function that makes an error whose first sentence its caller gives (`_wrong(what, received, do)`)."""

    kind: str
    parts: Mapping[str, ast.expr]
    parameters: tuple[str, ...]
    defaults: Mapping[str, ast.expr]

    def parts_of(self, call: ast.Call) -> dict[str, ast.expr] | None:
        """The four parts, with the arguments of a call in the place of the parameters.

        None for a call without all of them: it is that of another function of this name.
        """
        given = {**self.defaults, **dict(zip(self.parameters, call.args, strict=False))}
        given |= {one.arg: one.value for one in call.keywords if one.arg}
        if set(given) != set(self.parameters):
            return None
        return {
            name: given.get(part.id, part) if isinstance(part, ast.Name) else part for name, part in self.parts.items()
        }


@functools.cache
def error_sites() -> tuple[ErrorSite, ...]:
    """All of them, file by file; a place whose first sentence comes from its callers stands for none of them."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
    own = {path: dict(_makers_in(tree)) for path, tree in trees.items()}
    methods = {name: maker for makers in own.values() for name, maker in makers.items() if not name.startswith("_")}
    return tuple(site for path, tree in trees.items() for site in _sites_in(path, tree, {**methods, **own[path]}))


def _makers_in(tree: ast.AST) -> Iterator[tuple[str, _Maker]]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names = [one.arg for one in function.args.args if one.arg != "self"]
            defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
            for node in ast.walk(function):
                parts = _parts(node)
                if parts and isinstance(parts["what"], ast.Name) and parts["what"].id in names:
                    yield function.name, _Maker(node.func.id, parts, tuple(names), defaults)  # type: ignore[attr-defined]


def _parts(node: ast.AST) -> dict[str, ast.expr] | None:
    """The four parts that a call gives to the class of an error, if it is such a call."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id[0].isupper():
        parts = {one.arg: one.value for one in node.keywords if one.arg in _PARTS}
        return parts if set(parts) == set(_PARTS) else None  # type: ignore[return-value]
    return None


def _sites_in(path: Path, tree: ast.AST, makers: Mapping[str, _Maker]) -> Iterator[ErrorSite]:
    inside = {id(part["what"]) for part in (maker.parts for maker in makers.values())}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        parts, kind = _parts(node), getattr(node.func, "id", "")
        name = getattr(node.func, "attr", kind)
        if parts is None and name in makers:
            parts, kind = makers[name].parts_of(node), makers[name].kind
        if parts is not None and id(parts["what"]) not in inside:
            text = "\n".join(_LABELS[name] + _text(parts[name]) for name in _PARTS)
            pattern = "\n".join(re.escape(_LABELS[name]) + _pattern(parts[name]) for name in _PARTS)
            yield ErrorSite(path, node.lineno, node.end_lineno or node.lineno, kind, text, pattern)


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


def _pattern(node: ast.expr) -> str:
    """A regular expression of what an expression can give; a computed part may be any text."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _pattern(node.left) + _pattern(node.right)
    if isinstance(node, ast.IfExp):
        return f"(?:{_pattern(node.body)}|{_pattern(node.orelse)})"
    return ".*"


def _name(node: ast.expr) -> str:
    """A word for a computed part: the first name in it that is no function or method of Python itself."""
    names = [one.attr if isinstance(one, ast.Attribute) else one.id for one in ast.walk(node)
             if isinstance(one, (ast.Attribute, ast.Name))]  # fmt: skip
    python = {*dir(builtins), *dir(str), *dir(list), *dir(dict), "self", "__name__", "value"}
    known = [name.strip("_") for name in names if name not in python and len(name.strip("_")) > 1]
    return (known or ["value"])[0].replace("_", " ")


def situations() -> dict[str, set[str]]:
    """The tests that expect the text of each error, by the error's digest.

    A test (`tests/data/test_images.py::test_...`) expects a text if it holds a string with words of its first line. A
    file (`tests/data/test_images.py`) does if such a string stands beside its tests, or if it mirrors the error's file.
    """
    tests = ROOT / "tests"
    expected = [(words, test) for path in sorted(tests.rglob("test_*.py")) for words, test in _expected(path)]
    found: dict[str, set[str]] = {}
    for site in error_sites():
        own = _words(site.text.split("\n")[0])
        mirror = tests / site.path.relative_to(SOURCE).parent / f"test_{site.path.name}"
        found.setdefault(site.digest, set()).update(
            [str(mirror.relative_to(ROOT))] * mirror.exists(),
            (test for words, test in expected if len(words & own) >= max(_FEWEST, _SHARE * len(words))),
        )
    return found


def _expected(path: Path) -> Iterator[tuple[set[str], str]]:
    """The words of each string of a test file, with the test or the file that it stands in."""
    name = str(path.relative_to(ROOT))
    for node in ast.parse(path.read_text()).body:
        is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and len(inner.value) < _LONGEST:
                words = _words(inner.value)
                if len(words) >= _FEWEST:
                    yield words, f"{name}::{node.name}" if is_test else name  # type: ignore[attr-defined]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))
