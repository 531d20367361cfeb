"""Writes docs/reference/findings.md and docs/reference/errors.md from the source; a test compares them with it.

python docs/pages.py
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from finding_examples import FOLDER as EXAMPLES
from finding_examples import FindingExample, run_example

from frostline.diagnosis.rules import RULES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "frostline"
FOLDER = Path(__file__).parent / "reference"
_PARTS = ("what", "where", "received", "do")
_LABELS = dict(zip(_PARTS, ("", "Where:    ", "Received: ", "Do:       "), strict=True))


def findings(examples: Mapping[str, FindingExample]) -> str:
    """The page of every finding code, each with its example."""
    lines = [
        "# Findings", "",
        "Each finding of `fl.Monitor`, `fl.fit`, `fl.checkup` and `fl.heal` has a code that never changes. It is "
        "an *issue* (training suffers), a *tip* (training may be fine), *passed*, *not applicable* or *not judged*. "
        "[Health](../health.md) gives the limits of each rule and where they come from, and "
        "[how the doctor reasons](../doctor.md) what follows from a finding.", "",
        "Each code has an example: a network with one fault, what is printed for it, and the same network without "
        "the fault. The printed text is that of a run. All examples begin with these lines "
        "(`docs/examples/findings/setting.py`):", "",
        "```python", _setting(), "```", "",
    ]  # fmt: skip
    for rule in sorted(RULES, key=lambda rule: rule.ABOUT.code):
        about, example = rule.ABOUT, examples[rule.ABOUT.code]
        lines += [
            f"## {about.code} {about.title}",
            "",
            f"**Family:** {about.family}. **Measured:** {_sentence(rule)}",
            "",
        ]
        if f"Do: {about.advice}" not in example.printed:
            lines += [f"**Do:** {_code(about.advice)}", ""]
        lines += [f"**Example:** {example.about}", "", "```python", example.code, "```", ""]
        lines += [
            "```text",
            example.printed,
            "```",
            "",
            "With the fix, the rule reports *{}*: {}".format(*example.after(about.code)),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _setting() -> str:
    text = (EXAMPLES / "setting.py").read_text()
    return text.split('"""', 2)[2].strip()


def _sentence(rule: object) -> str:
    """What the rule measures: the first line of its check."""
    return _lowered(str(rule.check.__doc__).split("\n")[0])  # type: ignore[attr-defined]


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


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
        found = sorted(
            {(site.kind, site.text) for site in error_sites() if site.path.relative_to(SOURCE).parts[0] == folder}
        )
        if found:
            lines += [f"## {folder.removesuffix('.py')}", ""]
            for kind, text in found:
                lines += [f"**{kind}**", "", "```text", text, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


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


def main() -> None:
    """Write both pages."""
    FOLDER.mkdir(exist_ok=True)
    examples = {rule.ABOUT.code: run_example(rule.ABOUT.code) for rule in RULES}
    for name, text in (("findings.md", findings(examples)), ("errors.md", errors())):
        (FOLDER / name).write_text(text)
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
