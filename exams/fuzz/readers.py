"""Damaged files of weights against every reader: a source or a `PortError`, soon, and nothing else is opened or run.

    python -m exams.fuzz.readers --seconds 600 [--format keras3] [--folder build/fuzz-readers]
    python -m exams.fuzz.readers --show keras3/images.keras 17

Each case damages one of the small files in `tests/porting/files`, which real frameworks wrote. Files of a new format
are put there, and are found by themselves. Cases are numbered: the file and the number make the same bytes again.
Workers are processes of their own with a limit on their memory, so that a library that crashes is counted.
"""

from __future__ import annotations

import argparse
import codecs
import importlib
import json
import pkgutil
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from frostline.core.errors import PortError
from frostline.porting import readers
from frostline.porting.readers.weight_file import WeightFile

from .damage import damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = Path(__file__).parents[2] / "tests" / "porting" / "files"
MAX_SECONDS = 1.0  # of the processor, for one case
MAX_FILE_BYTES = 200_000
_BATCH = 500
_MAX_LOADED_BYTES = 1 << 28
_MEMORY_BYTES = 2 << 30  # on top of what a worker has when it starts
# What no reader of data does. Opening and listing is allowed inside of the folder of the file.
_FORBIDDEN = (
    "import", "exec", "compile", "code.__new__", "marshal.", "pickle.", "subprocess.", "os.system", "os.exec",
    "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink",
    "os.chmod", "os.putenv", "shutil.", "socket.", "ctypes.", "urllib.", "webbrowser.", "sys.settrace", "tempfile.",
)  # fmt: skip
_PLACES = ("open", "os.listdir", "os.scandir", "glob.glob", "os.truncate")


class BrokenLawError(AssertionError):
    """A case that ended otherwise than with a source or a `PortError`."""


class _Watch:
    """Listens to Python's audit events while a case runs; hooks cannot be removed, so there is one for good."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self._is_installed = False

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """Collects what is forbidden, while cases in a folder run."""
        if not self._is_installed:
            sys.addaudithook(self._hear)
            self._is_installed = True
        self.folder, self.seen = str(folder), []
        try:
            yield self.seen
        finally:
            self.folder = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event.startswith(_FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event in _PLACES and not str(arguments[0]).startswith(self.folder):
            self.seen.append(f"{event} {str(arguments[0])[:200]}")


_WATCH = _Watch()


def modules() -> dict[str, ModuleType]:
    """Every reader, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(readers.__path__))
    loaded = {name: importlib.import_module(f"{readers.__name__}.{name}") for name in names}
    return {name: module for name, module in loaded.items() if hasattr(module, "claims") and hasattr(module, "read")}


def fixtures(only: str | None = None) -> list[str]:
    """Files of all formats, or of one, as `format/path`."""
    found = [path for path in sorted(FILES.glob("*/**/*")) if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES]
    names = [str(path.relative_to(FILES)) for path in found]
    return [name for name in names if only is None or name.split("/")[0] == only]


@contextmanager
def prepared(fixture: str) -> Iterator[Path]:
    """A copy of a fixture's folder, with everything imported that its readers need; gives the copy of the fixture."""
    with tempfile.TemporaryDirectory() as folder:
        top = fixture.split("/")[0]
        shutil.copytree(FILES / top, Path(folder).resolve() / top)
        path = Path(folder).resolve() / fixture
        for name in ("cp437", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            codecs.lookup(name)  # Python imports a codec when it first decodes a name of a file with it
        for module in modules().values():
            _outcome(module, path)
        yield path


def examine(path: Path, content: bytes) -> str:
    """What every reader makes of a file with this content, which is `source` if one of them reads it, or `refused`.

    Raises:
        BrokenLawError: If a reader raises anything but a `PortError`, takes too long, or does more than read this file.
    """
    path.write_bytes(content)
    verdicts: list[str] = []
    # What describes the variables of a SavedModel lies in the folder around theirs.
    folder = path.parent.parent if path.parent.name == "variables" else path.parent
    for name, module in modules().items():
        start = time.process_time()
        with _WATCH.over(folder) as seen:
            verdicts.append(_outcome(module, path))
        if seen:
            raise BrokenLawError(f"{name}: {seen[0]}")
        if time.process_time() - start > MAX_SECONDS:
            raise BrokenLawError(f"{name}: took {time.process_time() - start:.1f} s")
    return "source" if "source" in verdicts else "refused"


def _outcome(module: ModuleType, path: Path) -> str:
    """`source`, `refused`, or `another` for a file that the reader does not claim."""
    try:
        with WeightFile(path) as file:
            if not module.claims(file):
                return "another"
            source = module.read(file, None)
            left = _MAX_LOADED_BYTES
            if len({tensor.name for tensor in source.tensors}) < len(source.tensors):
                raise BrokenLawError(f"{module.__name__}: two tensors of one name")
            for tensor in source.tensors:
                loaded = tensor.load()
                if (tuple(loaded.shape), str(loaded.dtype)) != (tensor.shape, f"torch.{tensor.dtype}"):
                    raise BrokenLawError(f"{module.__name__}: {tensor.name!r} is not what it was announced as")
                left -= loaded.nbytes
                if left < 0:
                    break
            file.check_unchanged()
        return "source"
    except PortError as error:
        if not all(error.parts().values()):
            raise BrokenLawError(f"{module.__name__}: an error without a part: {error.parts()}") from error
        return "refused"


def verdicts(fixture: str, first: int, count: int) -> Iterator[tuple[int, str]]:
    """The number and the verdict of each case of a file: `source`, `refused`, or what was broken, and where.

    A number is given with an empty verdict before its case runs.
    """
    original = (FILES / fixture).read_bytes()
    others = [(FILES / name).read_bytes() for name in fixtures(fixture.split("/")[0])]
    with prepared(fixture) as path:
        for number in range(first, first + count):
            yield number, ""
            try:
                verdict = examine(path, damaged(original, others, f"{fixture} {number}"))
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
                verdict = f"broken: {type(error).__name__} {str(error)[:300]} ({place})"
            yield number, verdict


def _work(fixture: str, first: int, count: int, progress: Path) -> int:
    """One worker: its verdicts, written as they come."""
    with progress.open("a") as log:
        for number, verdict in verdicts(fixture, first, count):
            if number == first and not verdict:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES, used + _MEMORY_BYTES))
            log.write(f"{number} {json.dumps(verdict)}\n")
            log.flush()
    return 0


def run(seconds: float, only: str | None, folder: Path) -> int:
    """Cases of the files that had fewest until the time is over; counts add up. 1 if a law was broken."""
    folder.mkdir(parents=True, exist_ok=True)
    totals = folder / "counts.json"
    counts: dict[str, dict[str, int]] = json.loads(totals.read_text()) if totals.is_file() else {}
    broken: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        fixture = min(fixtures(only), key=lambda name: sum(counts.get(name, {}).values()))
        mine = Counter(counts.get(fixture, {}))
        for number, verdict in _batch(fixture, mine.total(), folder / "progress"):
            is_broken = verdict.startswith("broken")
            mine["broken" if is_broken else verdict] += 1
            broken += [f"{fixture} {number} {verdict}"] if is_broken else []
        counts[fixture] = dict(mine)
        totals.write_text(json.dumps(counts, indent=1, sort_keys=True))
    with (folder / "broken.txt").open("a") as log:
        log.writelines(f"{line}\n" for line in broken)
    sys.stdout.write(table(counts) + "".join(f"{line}\n" for line in broken))
    return int(bool(broken))


def _batch(fixture: str, first: int, log: Path) -> list[tuple[int, str]]:
    """The verdicts of one worker; the case in which it ended too early is broken."""
    log.write_text("")
    command = [sys.executable, "-m", "exams.fuzz.readers", "--work", fixture, str(first), str(_BATCH), str(log)]
    status = subprocess.run(command, check=False).returncode
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    found = {int(number): json.loads(verdict) for number, _, verdict in lines}
    return [(number, verdict or f"broken: the process ended with {status}") for number, verdict in found.items()]


def table(counts: dict[str, dict[str, int]]) -> str:
    """Cases by format."""
    by_format: dict[str, Counter[str]] = {}
    for fixture, mine in counts.items():
        by_format.setdefault(fixture.split("/")[0], Counter()).update(mine)
    rows = [
        f"| {name} | {found.total():,} | {found['source']:,} | {found['refused']:,} | {found['broken']:,} |\n"
        for name, found in sorted(by_format.items())
    ]
    return "| files | cases | read | refused | law broken |\n|---|--:|--:|--:|--:|\n" + "".join(rows)


def main() -> int:
    """Parse the options and run; 1 if a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m exams.fuzz.readers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long")
    parser.add_argument("--format", help="only files of this folder")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz-readers"), help="where counts add up")
    parser.add_argument("--show", nargs=2, metavar=("FILE", "CASE"), help="run one case, and stop")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        fixture, first, count, log = options.work
        return _work(fixture, int(first), int(count), Path(log))
    if options.show:
        fixture, number = options.show
        sys.stdout.write("".join(f"{verdict}\n" for _, verdict in verdicts(fixture, int(number), 1) if verdict))
        return 0
    return run(options.seconds, options.format, options.folder)


if __name__ == "__main__":
    sys.exit(main())
