"""Writes docs/reference/findings.md and docs/reference/errors.md from the source; a test compares them with it.

python docs/pages.py          both (the examples of findings are run)
python docs/pages.py errors   the errors alone, from the texts that docs/error_examples.py recorded
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from error_sites import SOURCE, ErrorSite, error_sites
from finding_examples import FOLDER as EXAMPLES
from finding_examples import FindingExample, run_example

from frostline.diagnosis.rules import RULES

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).parent / "reference"
EXAMPLES_OF_ERRORS = Path(__file__).parent / "error_examples.json"
# What the errors of each package are about.
ABOUT = {
    "caching": "the cache: its folder, keys, shards and rows",
    "cli": "options of the command line",
    "core": "arguments, names of layers, inputs that a model does not take, files and devices",
    "data": "images and arrays",
    "demo": "the demo",
    "diagnosis": "monitors, checkups and treatments",
    "porting": "files of weights, and modules that they do not fit",
    "recipes": "training, prediction, export and schedules",
    "remedies": "layers that are changed, clips and schedules of the learning rate",
    "selection": "the choice of a freeze line, of a model and of a head",
    "splitting": "models that cannot be split, and frozen parts that must not be cached",
    "training": "losses, metrics, batches, optimizers and checkpoints",
    "transfer": "freezing, heads and reused weights",
}


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


def errors() -> str:
    """The page of every error, by the package and file that raise it."""
    examples = json.loads(EXAMPLES_OF_ERRORS.read_text())
    packages: dict[str, dict[str, dict[str, ErrorSite]]] = {}
    for site in error_sites():
        file = str(site.path.relative_to(SOURCE))
        packages.setdefault(file.split("/")[0].removesuffix(".py"), {}).setdefault(file, {})[site.digest] = site
    lines = [
        "# Errors", "",
        "Every error of Frostline is a `FrostlineError` with four parts: what could not be done, where, what was "
        "received, and what to do. `--json` prints the parts by name. Each text on this page is one that a test "
        "provoked: search it for the first line of your error. Above it stand the class, the public calls that raised "
        "it in the tests, and the case in which it was raised, which is the name of a test. Folders and addresses of "
        "the test are replaced.", "",
        "| errors about | in the package | number |", "|---|---|---|",
    ]  # fmt: skip
    for package, files in packages.items():
        lines.append(f"| {ABOUT[package]} | [`{package}`](#{package}) | {sum(map(len, files.values()))} |")
    for package, files in packages.items():
        lines += ["", f"## {package}", "", f"{ABOUT[package].capitalize()}."]
        for file, sites in files.items():
            lines += ["", f"### {file.removesuffix('.py').replace('/', ' / ')}"]
            for digest, site in sites.items():
                lines += ["", *_entry(site, examples.get(digest))]
    return "\n".join(lines) + "\n"


def _entry(site: ErrorSite, example: Mapping[str, Any] | None) -> list[str]:
    if example is None:
        return [f"**{site.kind}**", "", "```text", site.text, "```"]
    calls = " from " + ", ".join(f"`{call}`" for call in example["calls"]) if example["calls"] else ""
    path, _, name = example["test"].partition("::")
    case = name.removeprefix("test_").replace("_", " ")
    return [f"**{site.kind}**{calls}: {case} (`{path}`)", "", "```text", *example["text"], "```"]


def write_errors() -> None:
    """Write the page of errors from the texts that were recorded."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "errors.md").write_text(errors())


def main() -> None:
    """Write the pages that are named, or both."""
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or ["findings", "errors"]:
        if name == "findings":
            text = findings({rule.ABOUT.code: run_example(rule.ABOUT.code) for rule in RULES})
            (FOLDER / "findings.md").write_text(text)
        else:
            write_errors()
        sys.stdout.write(f"{FOLDER / name}.md\n")


if __name__ == "__main__":
    main()
