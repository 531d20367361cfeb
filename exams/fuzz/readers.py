"""Damaged files of weights against every reader: a source or a `PortError`, soon, and nothing else is opened or run.

    python -m exams.fuzz.readers --seconds 600 [--reader keras3] [--store docs/fuzz-readers.json]
    python -m exams.fuzz.readers --show keras3/images.keras 17

Each case damages one of the small files in `tests/porting/files`, which real frameworks wrote, and reads it, or the
file that leads to it (the index of a shard). Files of a new format are put there, and are found by themselves. Cases
are numbered: the file and the number make the same bytes again. Counts add up in `docs/fuzz-readers.md`. Workers are
processes of their own with a limit on their memory, so that a library that crashes is counted.
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
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from frostline.core.errors import PortError
from frostline.porting import readers
from frostline.porting.readers.weight_file import WeightFile

from .damage import damaged
from .reader_counts import STORE, Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = Path(__file__).parents[2] / "tests" / "porting" / "files"
MAX_SECONDS = 1.0  # of the processor, for one case
MAX_FILE_BYTES = 200_000
_BATCH = 2_000  # a new process takes as long as a thousand
_SHARED_MEMORY = Path("/dev/shm")  # half of the time of a case went into writing it to a disk
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
        self.opened: set[str] = set()
        self._is_installed = False

    @contextmanager
    def over(self, folder: Path) -> Iterator[list[str]]:
        """Collects what is forbidden, while cases in a folder run."""
        if not self._is_installed:
            sys.addaudithook(self._hear)
            self._is_installed = True
        self.folder, self.seen, self.opened = str(folder), [], set()
        try:
            yield self.seen
        finally:
            self.folder = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event.startswith(_FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event in _PLACES:
            self.opened.add(str(arguments[0]))
            if not str(arguments[0]).startswith(self.folder):
                self.seen.append(f"{event} {str(arguments[0])[:200]}")


_WATCH = _Watch()
watched = _WATCH.over


@cache
def modules() -> dict[str, ModuleType]:
    """Every reader, by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(readers.__path__))
    loaded = {name: importlib.import_module(f"{readers.__name__}.{name}") for name in names}
    return {name: module for name, module in loaded.items() if hasattr(module, "claims") and hasattr(module, "read")}


def fixtures(folder: str | None = None) -> list[str]:
    """Files of all folders, or of one, as `folder/path`."""
    found = [path for path in sorted(FILES.glob("*/**/*")) if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES]
    names = [str(path.relative_to(FILES)) for path in found]
    return [name for name in names if folder is None or name.split("/")[0] == folder]


@contextmanager
def prepared(fixture: str) -> Iterator[Path]:
    """A copy of a fixture's folder, with everything imported that its readers need; gives the copy of the fixture."""
    with tempfile.TemporaryDirectory(dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None) as folder:
        top = fixture.split("/")[0]
        shutil.copytree(FILES / top, Path(folder).resolve() / top)
        path = Path(folder).resolve() / fixture
        for name in ("cp437", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            codecs.lookup(name)  # Python imports a codec when it first decodes a name of a file with it
        for module in modules().values():
            _outcome(module, path)
        yield path


def entrances() -> dict[str, tuple[str, str]]:
    """For each file, the file by which it is read (itself, an index, a graph) and its reader; without files of no use.

    What a reader opens beside its file is heard; tensorstore is not, so all below an Orbax checkpoint belongs to it.
    """
    found: dict[str, tuple[str, str]] = {}
    beside: dict[str, tuple[str, str]] = {}
    refused: dict[str, tuple[str, str]] = {}
    top, known = FILES.resolve(), set(fixtures())
    for fixture in sorted(known):
        path = top / fixture
        for reader, module in modules().items():
            with _WATCH.over(top):
                verdict = _outcome(module, path)
                opened = set(_WATCH.opened)
            if verdict == "refused":
                refused[fixture] = fixture, reader
            elif verdict == "source":
                found.setdefault(fixture, (fixture, reader))
                below = path.parent.rglob("*") if reader == "orbax" else map(Path, opened)
                names = [str(other.relative_to(top)) for other in below if other.is_relative_to(top)]
                beside.update({name: (fixture, reader) for name in names if name in known})
    return refused | beside | found


def examine(path: Path, content: bytes, entrance: Path | None = None) -> str:
    """What every reader makes of a file with this content, which is `source` if one of them reads it, or `refused`.

    Args:
        path: Where the content is written.
        content: The bytes.
        entrance: The file that is read, if it is another one, which leads there.

    Raises:
        BrokenLawError: If a reader raises anything but a `PortError`, takes too long, or does more than read this file.
    """
    path.write_bytes(content)
    entrance = entrance or path
    verdicts: list[str] = []
    # What describes the variables of a SavedModel lies in the folder around theirs.
    folder = entrance.parent.parent if entrance.parent.name == "variables" else entrance.parent
    for name, module in modules().items():
        start = time.process_time()
        with _WATCH.over(folder) as seen:
            verdicts.append(_outcome(module, entrance))
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
            source = module.read(file)
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


def verdicts(fixture: str, first: int, count: int, entrance: str = "") -> Iterator[tuple[int, str]]:
    """The number and the verdict of each case of a file: `source`, `refused`, or what was broken, and where.

    A number is given with an empty verdict before its case runs. The entrance is the file that is read, if it is
    another.
    """
    original = (FILES / fixture).read_bytes()
    others = [(FILES / name).read_bytes() for name in fixtures(fixture.split("/")[0])]
    with prepared(entrance or fixture) as read:
        path = read.parents[(entrance or fixture).count("/")] / fixture
        for number in range(first, first + count):
            yield number, ""
            try:
                verdict = examine(path, damaged(original, others, f"{fixture} {number}"), read)
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
                verdict = f"broken: {type(error).__name__} {str(error)[:300]} ({place})"
            yield number, verdict


def _work(fixture: str, entrance: str, first: int, count: int, progress: Path) -> int:
    """One worker: its verdicts, written as they come."""
    with progress.open("a") as log:
        for number, verdict in verdicts(fixture, first, count, entrance):
            if number == first and not verdict:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES, used + _MEMORY_BYTES))
            log.write(f"{number} {json.dumps(verdict)}\n")
            log.flush()
    return 0


def run(seconds: float, only: str | None, store: Path) -> int:
    """Cases for the reader, and of its files for the one, that had fewest, until the time is over; 1 if a law broke."""
    counts, broken = Counts(store), list[str]()
    places = {name: place for name, place in entrances().items() if only is None or place[1] == only}
    files = {reader: sorted(name for name in places if places[name][1] == reader) for _, reader in places.values()}
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            done = {reader: [counts.num_cases(reader, name) for name in names] for reader, names in files.items()}
            reader = min(files, key=lambda name: sum(done[name]))
            fixture = min(files[reader], key=lambda name: counts.num_cases(reader, name))
            first = counts.num_cases(reader, fixture)
            found = _batch(fixture, places[fixture][0], first, Path(folder) / "progress")
            counts.add(reader, fixture, [verdict for _, verdict in found])
            for number, verdict in found:
                if verdict.startswith("broken"):
                    broken.append(f"{fixture} {number} {verdict}")
                    sys.stdout.write(f"{broken[-1]}\n")
                    sys.stdout.flush()
    sys.stdout.write(counts.table())
    return int(bool(broken))


def _batch(fixture: str, entrance: str, first: int, log: Path) -> list[tuple[int, str]]:
    """The verdicts of one worker; the case in which it ended too early is broken."""
    log.write_text("")
    what = [fixture, entrance, str(first), str(_BATCH), str(log)]
    status = subprocess.run([sys.executable, "-m", "exams.fuzz.readers", "--work", *what], check=False).returncode
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    found = {int(number): json.loads(verdict) for number, _, verdict in lines}
    return [(number, verdict or f"broken: the process ended with {status}") for number, verdict in found.items()]


def main() -> int:
    """Parse the options and run; 1 if a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m exams.fuzz.readers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long")
    parser.add_argument("--reader", help="only files of this reader")
    parser.add_argument("--store", type=Path, default=STORE, help="where counts add up; a page is written beside it")
    parser.add_argument("--show", nargs=2, metavar=("FILE", "CASE"), help="run one case, and stop")
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        fixture, entrance, first, count, log = options.work
        return _work(fixture, entrance, int(first), int(count), Path(log))
    if options.show:
        fixture, number = options.show
        entrance, _ = entrances().get(fixture, (fixture, ""))
        found = verdicts(fixture, int(number), 1, entrance)
        sys.stdout.write("".join(f"{verdict}\n" for _, verdict in found if verdict))
        return 0
    return run(options.seconds, options.reader, options.store)


if __name__ == "__main__":
    sys.exit(main())
