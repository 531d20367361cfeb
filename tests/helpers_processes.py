"""Scripts and commands in processes of their own, without importing torch in each of them.

The processes are forked from one that has imported what they need (multiprocessing's fork server): an import takes
longer than most of what the tests run in a process. Where a test is about the start of a process, it uses `subprocess`.
"""

import functools
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

_TESTS = Path(__file__).parent
_PATHS = os.pathsep.join([str(_TESTS / "shim"), *filter(None, [os.environ.get("PYTHONPATH")])])
_COMMAND = "from frostline.cli.main import app\napp()"


@dataclass(frozen=True)
class Done:
    """How a process ended: its exit status (negative: the signal that ended it) and what it wrote."""

    returncode: int | None
    stdout: str
    stderr: str


def run_script(
    script: str, folder: Path | str, *, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Done:
    """Run Python code in a process of its own.

    Args:
        script: The code; its `sys.argv` is `arguments` behind a name.
        folder: The current folder of the process.
        environment: Variables beside those of the tests.
    """
    variables = {"PYTHONPATH": _PATHS, "OMP_NUM_THREADS": "1", **(environment or {})}
    with tempfile.TemporaryDirectory() as place:
        texts = [Path(place) / name for name in ("out", "err")]
        process = fresh_processes().Process(
            target=_child, args=(script, str(folder), list(arguments), variables, texts)
        )
        process.start()
        process.join()
        return Done(process.exitcode, *(text.read_text() if text.exists() else "" for text in texts))


def _child(script: str, folder: str, arguments: list[str], variables: dict[str, str], texts: list[Path]) -> None:
    for number, text in enumerate(texts, start=1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = ["script", *arguments]
    sys.path.insert(0, "")
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


@functools.cache
def fresh_processes() -> Any:
    """The context of the fork server, also for a `DataLoader`: what its workers get is pickled, as with spawn.

    Where there is no fork server (Windows), every process starts anew.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "helpers_processes_imports"])
    with pytest.MonkeyPatch.context() as patch:  # the server imports from there
        patch.setenv("PYTHONPATH", os.pathsep.join([str(_TESTS), _PATHS]))
        patch.setenv("OMP_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


def run_command(*arguments: object, cwd: Path | str) -> Done:
    """`frostline` with these arguments, in a process of its own."""
    return run_script(_COMMAND, cwd, arguments=[str(one) for one in arguments])
