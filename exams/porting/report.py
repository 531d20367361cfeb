"""The page of the exam's figures, and a JSON of them."""

from __future__ import annotations

import json
import platform
import subprocess
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .stored import LIMIT
from .trials import AMBIGUOUS, CRASHED, EXACT, OUTCOMES, REFUSED, TOLD, WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .stored import Stored
    from .trials import Verdict

INTRODUCTION = """\
# The exam of porting

Networks built and saved by the real frameworks, each ported by `fl.port` into a PyTorch module of other names,
structure and order of registration. The golden outputs are those of the framework. The layout rules were written once
more, independently of the library (`exams/porting/by_hand.py`), to know that the module can reach them.

Beside them stand real weight files of public packages (`public`), fetched by name and version, with the outputs of
OpenCV, TensorFlow, ONNX Runtime, TF.js and the packages' own code; and the one-layer models of ONNX's own tests.

* **exact**: the largest difference of the outputs is at most {limit} of the largest output, in float32.
* **ambiguous**: `AmbiguousPortError` with alternatives. **refused**: another `PortError`.
* **differs, and says so**: the outputs differ, and the certificate names a setting that does.
* **crashed**: any other exception. **silently wrong**: a certificate, and other outputs. The last must be 0.

Run with `make exam-porting` at commit {commit}: {networks} networks in {files} files; {machine}; Python {python},
PyTorch {torch}. Where several commits are named, each row states its own.
"""

NOT_EXACT = """\
Ambiguity is the right answer where a file without an architecture holds twins that neither names nor the flow of values
tell apart; golden outputs then settle it."""

SCAFFOLDS = """\
`frostline port FILE --scaffold network.py`, then the port of the same file into the module that it wrote, for every
file with an architecture: Keras (2 and 3, SavedModel and TF.js with it too) and ONNX. The module is compared with the
golden outputs of the framework; ONNX files of public packages with ONNX Runtime, on other random inputs than those of
the port. Wrong must be 0."""

MEANINGS = {
    "by hand": "The layout rules applied by hand",
    "plain": "A file and a module, nothing else",
    "golden": "With golden inputs and outputs",
    "other names": "Layers of the source under random names, written so by the framework",
    "lying names": "Files with an architecture in which names were exchanged between layers of one kind and shape",
    "renamed": "Modules under random names and in random order of registration",
    "shuffled": "Files written anew: layers under random names, tensors and nodes in random order, or both",
    "partial": "The backbone alone (`partial=True`), into modules whose last layer has three outputs more",
    "traps": "Modules with a setting that is wrong (epsilon, slope, padding, heads): nothing can be exact here",
    "scaffold": "Files with an architecture and no module: one is written (`--scaffold`), and filled by the port",
    "weightbridge": "weightbridge 0.0.4, given the arrays of the framework, their format and separators",
    "onnx2torch": "onnx2torch 1.5.15, into its own module",
    "onnx2pytorch": "onnx2pytorch 0.6.0, into its own module",
}


def summary(mode: str, verdicts: Sequence[Verdict]) -> str:
    """One line of counts, and one for each port that must not be."""
    tally = Counter(verdict.outcome for verdict in verdicts)
    line = f"{mode}: " + ", ".join(f"{tally[outcome]} {outcome}" for outcome in OUTCOMES if tally[outcome])
    return "\n".join([line, *(_bad(verdict) for verdict in verdicts if verdict.outcome in (WRONG, CRASHED))])


def _bad(verdict: Verdict) -> str:
    name = f"{verdict.network} {verdict.file}"
    return f"  {verdict.mode}, {verdict.outcome}: {name}, error {verdict.error:.1e} {verdict.detail}".rstrip()


def counts(verdicts: Sequence[Verdict]) -> list[str]:
    """The table of counts by mode."""
    lines = [f"| | ports | {' | '.join(OUTCOMES)} | commit |", "|---" * (len(OUTCOMES) + 3) + "|"]
    for mode, meaning in MEANINGS.items():
        found = [verdict for verdict in verdicts if verdict.mode == mode]
        tally = Counter(verdict.outcome for verdict in found)
        cells = [_bold(tally[outcome]) if outcome in (WRONG, CRASHED) else str(tally[outcome]) for outcome in OUTCOMES]
        if found:
            lines.append(f"| {meaning} | {len(found)} | {' | '.join(cells)} | {_commits(found)} |")
    return lines


def _bold(count: int) -> str:
    return f"**{count}**"


def by_framework(verdicts: Sequence[Verdict]) -> list[str]:
    """The table of plain ports by framework and kind of file."""
    rows: dict[tuple[str, str], Counter[str]] = {}
    for verdict in verdicts:
        if verdict.mode in ("plain", "golden"):
            key = (verdict.network.split("/")[0], verdict.file.split("/")[-1])
            rows.setdefault(key, Counter())[f"{verdict.mode} {_short(verdict)}"] += 1
    heads = [f"{mode} {outcome}" for mode in ("plain", "golden") for outcome in (EXACT, AMBIGUOUS, REFUSED, "other")]
    lines = ["| framework | file | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for (framework, file), tally in sorted(rows.items()):
        lines.append(f"| {framework} | `{file}` | {' | '.join(str(tally[head]) for head in heads)} |")
    return lines


def scaffolds(verdicts: Sequence[Verdict]) -> list[str]:
    """The table of modules that were written, by framework, and what was refused with its reason."""
    rows: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.mode == "scaffold":
            rows.setdefault(
                f"{verdict.network.split('/')[0]}, `{Path(verdict.file).suffix or verdict.file}`", []
            ).append(verdict)
    lines = ["| framework, files | files | right | refused | wrong | refused because |", "|---|---|---|---|---|---|"]
    for name, found in sorted(rows.items()):
        tally = Counter(verdict.outcome for verdict in found)
        right, refused = tally[EXACT], tally[REFUSED] + tally[AMBIGUOUS]
        why = "; ".join(dict.fromkeys(verdict.detail for verdict in found if verdict.outcome in (REFUSED, AMBIGUOUS)))
        why = why.replace("|", "/").replace("\n", " ")
        lines.append(f"| {name} | {len(found)} | {right} | {refused} | {_bold(len(found) - right - refused)} | {why} |")
    return lines


def left_out(networks: Sequence[Stored]) -> list[str]:
    """A line for each network that is ported with golden outputs only."""
    only = [network for network in networks if network.counterpart.golden_only]
    lines = [
        f"* `{each.framework}/{each.name}` is ported with golden outputs only: {each.counterpart.golden_only}."
        for each in only
    ]
    for each in networks:
        for file in each.counterpart.untold:
            lines.append(
                f"* `{each.framework}/{each.name}/{file}` is ported with golden outputs only: nothing in the file "
                "tells how the network computes."
            )
    return [*lines, ""] if lines else []


def _short(verdict: Verdict) -> str:
    return verdict.outcome if verdict.outcome in (EXACT, AMBIGUOUS, REFUSED) else "other"


def not_exact(verdicts: Sequence[Verdict]) -> list[str]:
    """Every port that is not exact and should be, or that should not be and is not refused."""
    rows: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        is_right = verdict.outcome == EXACT or verdict.as_expected
        if verdict.mode == "traps":
            is_right = verdict.outcome in (REFUSED, TOLD)
        if verdict.mode in ("plain", "golden", "lying names", "traps", "partial") and not is_right:
            rows.setdefault((verdict.network, verdict.mode, verdict.outcome), []).append(verdict)
    lines = ["| network | how | outcome | files | said |", "|---|---|---|---|---|"]
    for (network, mode, outcome), found in rows.items():
        files = ", ".join(f"`{verdict.file}`" for verdict in found)
        text = found[0].detail.partition("\n")[0].replace("|", "/")
        lines.append(f"| {network} | {mode} | {outcome} | {files} | {text} |")
    return lines


def write(verdicts: Sequence[Verdict], networks: Sequence[Stored], path: Path) -> None:
    """Write the page and the JSON beside it."""
    facts = {
        "networks": len(networks),
        "files": sum(len(network.files) for network in networks),
        "machine": f"{platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "limit": LIMIT,
        "commit": _commits(verdicts),
    }
    exact = [verdict for verdict in verdicts if verdict.outcome == EXACT and verdict.mode in ("plain", "golden")]
    expected = sum(verdict.as_expected for verdict in verdicts if verdict.mode == "plain")
    largest = max((verdict.error for verdict in exact), default=0.0)
    slowest = max((verdict.elapsed_s for verdict in verdicts), default=0.0)
    lines = [
        INTRODUCTION.format(**facts), *counts(verdicts), "",
        f"Of the refused plain ports, {expected} are networks that the module cannot represent (a GRU whose reset gate "
        f"stands before the product). The largest error of an exact port is {largest:.1e}; the slowest port took "
        f"{slowest:.1f} s.",
        "", *left_out(networks), "## By framework and file", "", *by_framework(verdicts), "",
        "## From a file to a network, without a module", "", SCAFFOLDS, "", *scaffolds(verdicts), "",
        "## Not exact", "", NOT_EXACT, "", *not_exact(verdicts), "",
    ]  # fmt: skip
    path.write_text("\n".join(lines))
    versions = {name: version(name) for name in ("torch", "numpy", "onnx", "onnxruntime")}
    modes = {mode: Counter(each.outcome for each in verdicts if each.mode == mode) for mode in MEANINGS}
    commits = {mode: _commits([each for each in verdicts if each.mode == mode]) for mode in MEANINGS}
    content = {**facts, "versions": versions, "frameworks": _frameworks(networks), "counts": modes, "commits": commits}
    path.with_suffix(".json").write_text(json.dumps({**content, "command": "make exam-porting"}, indent=1) + "\n")


def _commits(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(dict.fromkeys(verdict.commit or "unknown" for verdict in verdicts))


def commit() -> str:
    """The version that is run; `-dirty` says that files were changed since."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--match="]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _frameworks(networks: Sequence[Stored]) -> dict[str, dict[str, str]]:
    return {network.framework: network.facts["versions"] for network in networks}
