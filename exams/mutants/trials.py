"""A copy of the tree, in which one mutant after the other is tried against the tests that run its line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exams.mutants.mutations import Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = Path("src/frostline")
_PARTS = ("src", "tests", "exams", "docs", "README.md", "pyproject.toml")
_BUDGET_S = 60.0  # of tests for one mutant, by their time without it; those of its own test file come first
_SLACK, _ROOM_S = 4.0, 60.0  # a mutant that takes so much longer than its tests has hung
_KILLED, _SURVIVED, _UNCOVERED = "killed", "survived", "uncovered"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `killed`, `survived`, or `uncovered`: no test runs its line."""

    mutant: Mutant
    fate: str
    tests: int
    by: str


class Copy:
    """A copy of the tree; the original is never touched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in _PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copy(source, folder / part)

    def pytest(self, *words: str, limit_s: float | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run tests of the copy, in a process of their own; `frostline` is the copy's."""
        path = os.pathsep.join([str(self.folder / "src"), str(self.folder)])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *words],
            cwd=self.folder,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=limit_s,
        )

    def tried(self, mutant: Mutant, tests: list[str], elapsed_s: float) -> Outcome:
        """Put the mutant in, run the tests to the first that fails, and take it out again."""
        if not tests:
            return Outcome(mutant, _UNCOVERED, 0, "")
        path = self.folder / PACKAGE / mutant.path
        source = path.read_bytes()
        names = self.folder / "tests.txt"
        names.write_text("\n".join(tests))
        path.write_bytes(mutant.applied(source))
        try:
            done = self.pytest("-x", f"@{names}", limit_s=_SLACK * elapsed_s + _ROOM_S)
        except subprocess.TimeoutExpired:
            return Outcome(mutant, _KILLED, len(tests), "it never ended")
        finally:
            path.write_bytes(source)
        if done.returncode == 0:
            return Outcome(mutant, _SURVIVED, len(tests), "")
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        return Outcome(mutant, _KILLED, len(tests), (failed or done.stdout.splitlines()[-1:] or ["?"])[0][:160])


def pillar(path: str) -> str:
    """The folder of tests of a file of the package: `recipes` for `recipes/examination/rates.py`."""
    return path.split("/")[0] if "/" in path else ""


def lines_by_test(copy: Copy, pillars: set[str], kept: Path) -> dict[str, Any]:
    """Which lines each test of these pillars runs; measured once for each state of the tree, and kept.

    Raises:
        RuntimeError: If a test fails as the tree is, since no mutant can be judged then.
    """
    kept.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name in sorted(pillars):
        path = kept / f"{name or 'package'}-{_digest()}.json"
        if not path.is_file():
            places = [str(PACKAGE / name), *([f"tests/{name}"] if name else []), *_laws(copy, name)]
            sys.stderr.write(f"lines of the tests of {name or 'the package'} ...\n")
            done = copy.pytest("-p", "exams.mutants.lines", *places, FROSTLINE_LINES=str(path.absolute()))
            if done.returncode != 0:
                path.unlink(missing_ok=True)
                raise RuntimeError(f"the tests of {name} fail without a mutant:\n{done.stdout[-3000:]}")
        found.update(json.loads(path.read_text()))
    return found


def _laws(copy: Copy, name: str) -> list[str]:
    laws = copy.folder / "tests" / "laws" / f"test_{name}_laws.py"
    return [str(laws.relative_to(copy.folder))] if laws.is_file() else []


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def tests_for(mutant: Mutant, lines: dict[str, Any]) -> tuple[list[str], float]:
    """The tests that run the mutant's statement, those of its own test file first; (names, seconds).

    What is run at import belongs to every test that runs anything of the file.
    """
    first, last = mutant.lines
    run = {name: record for name, record in lines.items() if mutant.path in record["lines"]}
    hit = {
        name: record
        for name, record in run.items()
        if any(first <= line <= last for line in record["lines"][mutant.path])
    } or run
    folder, _, leaf = mutant.path.rpartition("/")
    mirror = f"tests/{folder}/test_{leaf}" if folder else f"tests/test_{leaf}"
    order = sorted(hit, key=lambda name: (not name.startswith((mirror, str(PACKAGE))), hit[name]["elapsed_s"]))
    chosen: list[str] = []
    elapsed_s = 0.0
    for name in order:
        if elapsed_s > _BUDGET_S:
            break
        chosen.append(name)
        elapsed_s += hit[name]["elapsed_s"]
    return chosen, elapsed_s
