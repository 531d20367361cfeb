"""A copy of the tree, in which one mutant after the other is tried against the tests that run its line.

The tests of a mutant run in a fork of a process that has imported torch, so that most mutants take about a second.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from exams.mutants.mutations import Mutant

ROOT = Path(__file__).parents[2]
PACKAGE = Path("src/frostline")
_PARTS = ("src", "tests", "exams", "docs", "README.md", "pyproject.toml")
_PLAIN = ("-q", "--no-header", "-p", "no:cacheprovider")
_HEAVY = (
    "numpy",
    "safetensors.torch",
    "hypothesis",
    "typer",
    "rich.progress",
    "sklearn.metrics",
    "lightning_fabric",
    "PIL.Image",
)
_BUDGET_S = 30.0  # of tests for one mutant, by their time without it; those of its own test file come first
_SLACK, _ROOM_S = 4.0, 60.0  # a mutant that takes so much longer than its tests has hung
_NOT_FOUND = 4  # pytest's exit code for tests that are not there
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

    @property
    def environment(self) -> dict[str, str]:
        """Of the tests: `frostline` is that of the copy, in their own processes too."""
        path = os.pathsep.join([str(self.folder / "src"), str(self.folder)])
        return {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def pytest(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run tests of the copy as it is."""
        return subprocess.run(
            [sys.executable, "-m", "pytest", *_PLAIN, *words],
            cwd=self.folder,
            env={**os.environ, **self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def tried(self, mutant: Mutant, tests: list[str], elapsed_s: float) -> Outcome:
        """Put the mutant in, run the tests to the first that fails, and take it out again."""
        if not tests:
            return Outcome(mutant, _UNCOVERED, 0, "")
        path = self.folder / PACKAGE / mutant.path
        source = path.read_bytes()
        code = self._with(mutant, path, source, tests, elapsed_s)
        if code == _NOT_FOUND:  # the mutant changed what is collected: whole files are asked
            code = self._with(mutant, path, source, sorted({name.split("::")[0] for name in tests}), elapsed_s)
        if code == 0:
            return Outcome(mutant, _SURVIVED, len(tests), "")
        said = (self.folder / "said.txt").read_text(errors="replace").splitlines()
        failed = [line for line in said if line.startswith(("FAILED", "ERROR"))]
        by = (failed or said[-1:] or [""])[0][:160] if code is not None else "it never ended"
        return Outcome(mutant, _KILLED, len(tests), by)

    def _with(self, mutant: Mutant, path: Path, source: bytes, tests: list[str], elapsed_s: float) -> int | None:
        (self.folder / "tests.txt").write_text("\n".join(tests))
        path.write_bytes(mutant.applied(source))
        try:
            return self._forked("-x", f"@{self.folder / 'tests.txt'}", limit_s=_SLACK * elapsed_s + _ROOM_S)
        finally:
            path.write_bytes(source)

    def check(self) -> None:
        """A fork must pass the tests of the tree as it is, or every mutant would seem to die.

        Raises:
            RuntimeError: If it does not.
        """
        if self._forked("tests/core/test_errors.py", limit_s=_ROOM_S) != 0:
            raise RuntimeError(f"the tests fail without a mutant:\n{(self.folder / 'said.txt').read_text()}")

    def _forked(self, *words: str, limit_s: float) -> int | None:
        """The exit code of pytest in a fork of this process, which has loaded what takes long; None if it hung."""
        child = os.fork()
        if child == 0:
            self._run_and_exit(*words)
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def _run_and_exit(self, *words: str) -> None:
        code = 3
        try:
            os.setsid()
            said = os.open(self.folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(said, stream)
            os.chdir(self.folder)
            os.environ.update(self.environment)
            sys.path[:0] = [str(self.folder / "src"), str(self.folder)]
            sys.dont_write_bytecode = True
            for name in [name for name in sys.modules if name.split(".")[0] in ("exams", "frostline")]:
                del sys.modules[name]  # the copy has its own
            loaded = "ignore::pytest.PytestAssertRewriteWarning"  # plugins that torch has imported
            code = int(pytest.main([*_PLAIN, "-W", loaded, *words]))
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


def preload() -> None:
    """Import what every test needs, so that forks need not."""
    for name in _HEAVY:
        with suppress(ImportError):
            importlib.import_module(name)
    torch.set_num_threads(1)


def lines_by_test(copy: Copy, kept: Path, pillars: list[str] | None = None) -> dict[str, Any]:
    """Which lines each test runs; measured once for each state of the tree, and kept.

    Args:
        copy: Where the tests run.
        kept: A folder for what was measured.
        pillars: Folders of tests; None is all of them.

    Raises:
        RuntimeError: If the tests cannot be collected.
    """
    kept.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    everything = sorted(path.parent.name for path in (copy.folder / PACKAGE).glob("*/__init__.py"))
    for name in pillars or everything:
        path = kept / f"{name}-{_digest(name)}.json"
        if not path.is_file():
            laws = sorted((copy.folder / "tests" / "laws").glob(f"test_{name}_laws.py"))
            sys.stderr.write(f"lines of the tests of {name} ...\n")
            done = copy.pytest(
                "-p", "exams.mutants.lines", str(PACKAGE / name), f"tests/{name}", *map(str, laws),
                FROSTLINE_LINES=str(path.absolute()),
            )  # fmt: skip
            if not path.is_file():
                raise RuntimeError(f"the tests of {name} do not run:\n{done.stdout[-3000:]}")
            if done.returncode != 0:
                failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
                sys.stderr.write("left out, since they fail without a mutant:\n" + "\n".join(failed) + "\n")
        found.update(json.loads(path.read_text()))
    return found


def _digest(name: str) -> str:
    digest = hashlib.sha256()
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests" / name).rglob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def tests_for(mutant: Mutant, lines: dict[str, Any]) -> tuple[list[str], float]:
    """The tests that run the mutant's statement, those of its own test file first; (names, seconds).

    What is run at import belongs to every test that runs anything of the file, and to the file's own tests.
    """
    first, last = mutant.lines
    folder, _, leaf = mutant.path.rpartition("/")
    mirror = f"tests/{folder}/test_{leaf}" if folder else f"tests/test_{leaf}"
    run = {name: record for name, record in lines.items() if mutant.path in record["lines"]}
    hit = {
        name: record
        for name, record in run.items()
        if any(first <= line <= last for line in record["lines"][mutant.path])
    } or {**{name: record for name, record in lines.items() if name.startswith(f"{mirror}::")}, **run}
    pillar = f"tests/{folder.split('/')[0]}/"
    order = sorted(
        hit,
        key=lambda name: (
            not name.startswith((mirror, str(PACKAGE))),
            not name.startswith(pillar),
            hit[name]["elapsed_s"],
        ),
    )
    chosen: list[str] = []
    elapsed_s = 0.0
    for name in order:
        if elapsed_s > _BUDGET_S:
            break
        chosen.append(name)
        elapsed_s += hit[name]["elapsed_s"]
    return chosen, elapsed_s
