"""Writes docs/reference/findings.md and docs/reference/errors.md from the source; a test compares them with it.

python docs/pages.py          both (the examples of findings are run)
python docs/pages.py errors   the errors alone
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from error_sites import SOURCE, ErrorSite, error_sites, situations
from finding_examples import FOLDER as EXAMPLES
from finding_examples import FindingExample, run_example

from frostline.diagnosis.rules import RULES

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "reference"
EXAMPLES_OF_ERRORS = Path(__file__).parent / "error_examples.json"


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
    """With a small first letter, unless it begins with a name (BatchNorm)."""
    first = text.split(" ")[0]
    return text[:1].lower() + text[1:] if first == first.capitalize() else text


def _code(text: str) -> str:
    arguments = r"\([^()]*(?:\([^()]*\)[^()]*)*\)"
    return re.sub(rf"(fl\.[\w.]+{arguments}(?:{arguments})?)", r"`\1`", text)


def errors(tests: Mapping[str, str]) -> str:
    """The page of every error, by the package that raises it.

    Args:
        tests: The test that shows each error, by its digest.
    """
    lines = [
        "# Errors", "",
        "Every error of Frostline is a `FrostlineError` with four parts: what could not be done, where, what was "
        "received, and what to do. `--json` prints the parts by name. The line above each text names a situation that "
        "raises it, with the test that shows it. Some texts are as they were printed there; in the others, `<...>` "
        "stands for a name or a number.",
        "",
    ]  # fmt: skip
    examples = json.loads(EXAMPLES_OF_ERRORS.read_text())
    folders: dict[str, dict[str, ErrorSite]] = {}
    for site in error_sites():
        folders.setdefault(site.path.relative_to(SOURCE).parts[0], {})[site.digest] = site
    for folder, found in sorted(folders.items()):
        lines += [f"## {folder.removesuffix('.py')}", ""]
        for site in sorted(found.values(), key=lambda site: (site.kind, site.text)):
            example = examples.get(site.digest, {"text": site.text, "test": tests.get(site.digest, "")})
            situation = f": {_situation(example['test'])}" if example["test"] else ""
            lines += [f"**{site.kind}**{situation}", "", "```text", example["text"], "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _situation(test: str) -> str:
    """The name of a test as words, and its file."""
    path, _, name = test.partition("::")
    return f"{name.removeprefix('test_').replace('_', ' ')} (`{path}`)"


def main() -> None:
    """Write the pages that are named, or both."""
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ["findings", "errors"]:
        if name == "findings":
            text = findings({rule.ABOUT.code: run_example(rule.ABOUT.code) for rule in RULES})
        else:
            text = errors(situations())
        (FOLDER / f"{name}.md").write_text(text)
        sys.stdout.write(f"{FOLDER / name}.md\n")


if __name__ == "__main__":
    main()
