"""The page of the exam, and the JSON of its verdicts."""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .judging import BATCH, CRASHED, EQUAL, EXACT, OUTCOMES, REFUSED, SAMPLES
from .peers import PEERS

if TYPE_CHECKING:
    from .cases import Case

_NAME = re.compile(r"'[^']*'")
DOCS = Path(__file__).parents[2] / "docs"
STORE, PAGE = DOCS / "coverage.json", DOCS / "coverage.md"
_INTRODUCTION = f"""\
# Coverage

Models that other people wrote, split at three places each: at a stage border (the middle block of the largest list
of blocks), inside of the block after it, and behind a parameter whose number is drawn by the name of the model.
Weights are random. Written by `python -m exams.split` (`exams/split/`); a run that is interrupted goes on where it
was.

The law: a cache is filled with {SAMPLES} samples, every trainable weight is moved by a tenth of its size, and the
head over stored rows, in batches of {BATCH}, gives the outputs and the gradients of a second model that moved
alike, in training and in evaluation. The library's own proof is not asked. **=** is equal to the last bit; a number
is the largest difference, relative to the largest value of its tensor, within the [tolerance](caching.md) of
another batch shape or within 20 times what the last digit of the inputs does; **refused** is an error with its four
parts, before anything is trained. **wrong** and **crashed** are faults of this library. **frozen** counts frozen
modules that run in the head although nothing trainable feeds them.

Beside it, a graph of the same model by `torch.fx.symbolic_trace` and by `torch.export` (with any batch size), cut
at the same places by the same rule, in evaluation only, where they need no noise.
"""
_KINDS = {
    "timm": "the smallest model of each module of timm, at the smallest size of images that it takes",
    "transformers": "architectures of transformers from small random configurations",
    "switches": "what people switch on around a model",
}


class Verdicts:
    """Verdicts by kind, name and cut, on the disk after each model."""

    def __init__(self, store: Path = STORE) -> None:
        self.store = store
        self._read()

    def of(self, case: Case) -> dict[str, Any]:
        """What is known of a model; nothing if it was another variant."""
        row = self.found.get(case.kind, {}).get(case.name, {})
        return row["verdicts"] if row.get("variant") == case.variant else {}

    def keep(self, case: Case, found: dict[str, dict[str, Any]]) -> None:
        """Keep what was found of a model; another run may have written meanwhile."""
        self._read()
        verdicts = {**self.of(case), **found}
        self.found.setdefault(case.kind, {})[case.name] = {"variant": case.variant, "verdicts": verdicts}
        self.store.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n")

    def _read(self) -> None:
        self.found: dict[str, dict[str, Any]] = json.loads(self.store.read_text()) if self.store.exists() else {}


def line(case: Case, found: dict[str, dict[str, Any]]) -> str:
    """A model in one line; what is not equal in more."""
    parts = [f"{name}: {own['outcome']} ({own['seconds']} s)" for name, own in found.items() if "seconds" in own]
    bad = [f"    {name}, {own['outcome']} ({own.get('where', '')}): {own['detail']}" for name, own in found.items()
           if own["outcome"] not in (EXACT, EQUAL) and not name.startswith(PEERS)]  # fmt: skip
    return "\n".join([f"{case.kind} {case.name} ({case.variant}): " + "; ".join(parts), *bad])


def write(kept: Verdicts, cases: dict[str, list[Case]], page: Path = PAGE) -> None:
    """Write the page."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "transformers"))
    lines = [
        _INTRODUCTION,
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}; {versions}.",
        "",
    ]
    lines += _summary(kept, cases)
    reasons: dict[str, list[str]] = {}
    for kind, own in cases.items():
        lines += _table(kind, own, kept, reasons)
    lines += ["## What was refused, and why", ""]
    for reason, where in sorted(reasons.items(), key=lambda pair: -len(pair[1])):
        lines += [f"* {reason}", f"  ({', '.join(where[:6])}{f' and {len(where) - 6} more' if len(where) > 6 else ''})"]
    page.write_text("\n".join(lines) + "\n")


def _summary(kept: Verdicts, cases: dict[str, list[Case]]) -> list[str]:
    lines = ["| | models | " + " | ".join(OUTCOMES) + " | not run |", "|---|---|" + "---|" * (len(OUTCOMES) + 1)]
    for kind, own in cases.items():
        for peer in ("", *PEERS):
            names = [(case, f"{peer}: {cut}" if peer else cut) for case in own if case.has_peers or not peer
                     for cut in case.cuts]  # fmt: skip
            count = Counter(kept.of(case).get(name, {}).get("outcome", "not run") for case, name in names)
            models = len({case.name for case, name in names if name in kept.of(case)})
            if models:
                cells = [str(count[outcome]) for outcome in (*OUTCOMES, "not run")]
                lines.append(f"| {kind}{f', {peer}' if peer else ''} | {models} of {len(own)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _table(kind: str, cases: list[Case], kept: Verdicts, reasons: dict[str, list[str]]) -> list[str]:
    cuts = list(dict.fromkeys(cut for case in cases for cut in case.cuts))
    lines = [f"## {kind}: {_KINDS[kind]}", "", f"| | model | {' | '.join(cuts)} | frozen | {' | '.join(PEERS)} |",
             "|---|---|" + "---|" * (len(cuts) + 1 + len(PEERS))]  # fmt: skip
    for case in sorted(cases, key=lambda case: case.name):
        found = kept.of(case)
        if not found:
            continue
        cells = [_cell(found.get(cut)) for cut in cuts]
        frozen = str(max((found[cut].get("num_frozen_in_head", 0) for cut in cuts if cut in found), default=0))
        peers = [_peer([found[f"{peer}: {cut}"] for cut in case.cuts if f"{peer}: {cut}" in found]) for peer in PEERS]
        lines.append(f"| {case.name} | {case.variant} | {' | '.join([*cells, frozen, *peers])} |")
        for cut in cuts:
            if found.get(cut, {}).get("outcome") in (REFUSED, CRASHED):
                reasons.setdefault(_reason(found[cut]), []).append(f"{case.name}, {cut}")
    left = ", ".join(sorted(case.name for case in cases if not kept.of(case)))
    return [*lines, "", *([f"Not run yet: {left}.", ""] if left else [])]


def _cell(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return ""
    if verdict["outcome"] == EQUAL:
        return f"{verdict['difference']:.0e}"
    return "=" if verdict["outcome"] == EXACT else verdict["outcome"]


def _peer(verdicts: list[dict[str, Any]]) -> str:
    """The outcomes of a peer at all cuts."""
    count = Counter("equal" if own["outcome"] in (EXACT, EQUAL) else own["outcome"] for own in verdicts)
    return "; ".join(f"{number} {outcome}" if len(count) > 1 else outcome for outcome, number in count.items())


def _reason(verdict: dict[str, Any]) -> str:
    """What an error says, without the names of this model."""
    text = [part.strip() for part in verdict["detail"].splitlines()]
    do = next((part.removeprefix("Do:").strip() for part in text if part.startswith("Do:")), "")
    return _NAME.sub("'...'", f"{text[0]} Do: {do}" if do else text[0]).replace("|", "/").replace("<", "(")
