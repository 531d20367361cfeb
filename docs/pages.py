"""Writes docs/reference/findings.md and docs/reference/errors.md from the source; a test compares them with it.

python docs/pages.py
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from frostline.diagnosis.rules import RULES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "frostline"
FOLDER = Path(__file__).parent / "reference"
_PARTS = ("what", "where", "received", "do")
_LABELS = dict(zip(_PARTS, ("", "Where:    ", "Received: ", "Do:       "), strict=True))


def findings() -> str:
    """The page of every finding code."""
    lines = [
        "# Findings", "",
        "Each finding of `fl.Monitor`, `fl.fit`, `fl.checkup` and `fl.heal` has a code that never changes. It is "
        "an *issue* (training suffers), a *tip* (training may be fine), *passed*, *not applicable* or *not judged*. "
        "[Health](../health.md) gives the limits of each rule and where they come from.", "",
    ]  # fmt: skip
    for rule in sorted(RULES, key=lambda rule: rule.ABOUT.code):
        about = rule.ABOUT
        lines += [f"## {about.code} {about.title}", "", f"**Family:** {about.family}. {_sentence(rule)}", ""]
        lines += [f"**Do:** {_code(about.advice)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _sentence(rule: object) -> str:
    """What the rule measures: the first line of its check."""
    return str(rule.check.__doc__).split("\n")[0]  # type: ignore[attr-defined]


def _code(text: str) -> str:
    arguments = r"\([^()]*(?:\([^()]*\)[^()]*)*\)"
    return re.sub(rf"(fl\.[\w.]+{arguments}(?:{arguments})?)", r"`\1`", text)


def errors() -> str:
    """The page of every error, by the package that raises it."""
    lines = [
        "# Errors", "",
        "Every error of Frostline is a `FrostlineError` with four parts: what could not be done, where, what was "
        "received, and what to do. `--json` prints the parts by name. `<...>` stands for a name or a number.",
        "",
    ]  # fmt: skip
    for folder in sorted({path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")}):
        found = sorted(set(_errors_in(SOURCE / folder)))
        if found:
            lines += [f"## {folder.removesuffix('.py')}", ""]
            for kind, text in found:
                lines += [f"**{kind}**", "", "```text", text, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _errors_in(place: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                parts = {one.arg: one.value for one in node.keywords if one.arg in _PARTS}
                if node.func.id[0].isupper() and set(parts) == set(_PARTS):
                    yield node.func.id, "\n".join(_LABELS[name] + _text(parts[name]) for name in _PARTS)


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


def main() -> None:
    """Write both pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in (("findings.md", findings()), ("errors.md", errors())):
        (FOLDER / name).write_text(text)
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
