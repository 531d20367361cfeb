"""Try a seeded sample of mutants: `python -m exams.mutants --count 218`; of a line: `--at core/io.py:30`."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from exams.mutants.mutations import Mutant, mutants_of
from exams.mutants.trials import PACKAGE, ROOT, Copy, Outcome, lines_by_test, preload, tests_for

KEPT = ROOT / ".mutants"


def main() -> int:
    """Run the sampler as the options say."""
    options = _options()
    chosen = _sample(options)
    started = time.monotonic()
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="frostline-mutants-") as folder:
        lines = lines_by_test(Copy(Path(folder) / "lines"), KEPT, options.pillars or None)
        preload()
        with ProcessPoolExecutor(options.jobs, get_context("fork"), _start, (Path(folder),)) as pool:
            waiting = [pool.submit(_tried, mutant, *tests_for(mutant, lines)) for mutant in chosen]
            for number, future in enumerate(waiting, 1):
                if time.monotonic() - started > options.seconds:
                    future.cancel()
                    continue
                found.append(future.result())
                sys.stderr.write(f"{number}/{len(chosen)} {found[-1].fate} {found[-1].mutant} {found[-1].by}\n")
    text = report(found)
    sys.stdout.write(text)
    if options.out:
        Path(options.out).write_text(text)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(outcome) for outcome in found], indent=1))
    return 0


_copy: list[Copy] = []  # of this worker process


def _start(folder: Path) -> None:
    _copy.append(Copy(folder / f"tree-{os.getpid()}"))
    _copy[0].check()


def _tried(mutant: Mutant, tests: list[str], elapsed_s: float) -> Outcome:
    return _copy[0].tried(mutant, tests, elapsed_s)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try a seeded sample of mutants of the library against its tests.")
    parser.add_argument("--count", type=int, default=218)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[""], help="Files that begin like this, such as remedies/.")
    parser.add_argument("--at", nargs="*", help="All mutants of these lines, such as core/norms.py:24.")
    parser.add_argument("--pillars", nargs="*", help="Folders of tests that are asked; all if none is named.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=1e9, help="Stop after so long.")
    parser.add_argument("--out", help="A file for the report.")
    parser.add_argument("--json", help="A file for the outcomes.")
    return parser.parse_args()


def _sample(options: argparse.Namespace) -> list[Mutant]:
    package = ROOT / PACKAGE
    everything: list[Mutant] = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith(tuple(options.only)):
            everything += mutants_of(path, name)
    if options.at:
        return [mutant for mutant in everything if f"{mutant.path}:{mutant.line}" in options.at]
    return random.Random(options.seed).sample(everything, min(options.count, len(everything)))


def report(found: list[Outcome]) -> str:
    """The counts, and every mutant that lives."""
    fates = Counter(outcome.fate for outcome in found)
    alive = sorted((str(outcome.mutant), outcome.fate) for outcome in found if outcome.fate != "killed")
    lines = [f"{len(found)} mutants: {', '.join(f'{count} {fate}' for fate, count in sorted(fates.items()))}."]
    return "\n".join([*lines, *(f"- {text} ({fate})" for text, fate in alive)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
