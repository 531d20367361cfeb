"""Records one real example of every error: the tests raise them, this keeps the text, the test and the public call.

python docs/error_examples.py             the errors that have no example yet: the tests that expect their words
python docs/error_examples.py tests/data  the errors of one area
python docs/error_examples.py --all       all tests that provoke errors (half an hour)

What was recorded is merged into docs/error_examples.json, and docs/reference/errors.md is written. An entry belongs to
the fixed words of an error: if they change, it is deleted, and the tests have to raise the error here again.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from error_sites import SOURCE, ErrorSite, error_sites, situations

import frostline
from frostline.cli.main import app
from frostline.core.errors import FrostlineError

ROOT = Path(__file__).parents[1]
STORE = Path(__file__).with_name("error_examples.json")
_PROVOKES = re.compile(r"raises|exit_code|code=1|refus|[Ee]rror|NotCacheable|LayerNotFound|capsys|stderr")
_LONGEST = 900  # characters; a longer text is of no use as an example
# What differs from run to run or from machine to machine, and the words in its place.
_STABLE = (
    (re.compile(r"(/private)?/tmp/pytest-of-[^/\s]+/pytest-\d+/(popen-gw\d+/)?[^/\s'\",;:)]+"), "work"),
    (re.compile(r"/tmp/(tmp|frostline-)\w+"), "work"),
    (re.compile(re.escape(str(ROOT)) + "/"), ""),
    (re.compile(r"\b0x[0-9a-f]{6,}\b"), "0x..."),
    (re.compile(r"\b([0-9a-f]{8})[0-9a-f]{24,}\b"), r"\1..."),
    (re.compile(r"\bprocess \d+\b"), "process 4242"),
)


class Recorder:
    """A pytest plugin that keeps the shortest text of each error, the test that provoked it, and all public calls.

    Args:
        tests: The tests and files to run (`tests/data/test_images.py::test_...`); by default all that mention an error.
    """

    def __init__(self, tests: set[str] | None = None) -> None:
        self.examples: dict[str, dict[str, Any]] = {}
        self._tests, self._test = tests, ""
        self._sites: dict[str, list[ErrorSite]] = {}
        for site in error_sites():
            self._sites.setdefault(str(site.path), []).append(site)
        self._doors = dict(_doors())

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the tests that may provoke an error."""
        items[:] = [item for item in items if hasattr(item, "function") and self._is_wanted(item)]

    def pytest_runtest_setup(self, item: Any) -> None:
        """Remember which test runs."""
        self._test = _name(item)

    def _is_wanted(self, item: Any) -> bool:
        if self._tests is not None and _name(item) in self._tests:
            return True
        is_in_file = self._tests is None or _name(item).split("::")[0] in self._tests
        return is_in_file and bool(_PROVOKES.search(_source(item.function)))

    def note(self, error: FrostlineError, frame: FrameType | None) -> None:
        """Keep this error if it is a shorter example of its place than the one before."""
        text, frames = str(error), []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        site = next((site for one in frames[:5] for site in self._fitting(one, text)), None)
        if site is None or len(text) > _LONGEST:
            return
        for changing, word in _STABLE:
            text = changing.sub(word, text)
        known = self.examples.setdefault(site.digest, {"file": "", "test": "", "calls": [], "text": []})
        called = [self._doors[one.f_code] for one in frames if one.f_code in self._doors]
        known["calls"] = sorted({*known["calls"], *called[-1:]})
        before = "\n".join(known["text"])
        if not before or (len(text), text) < (len(before), before):
            known |= {"file": str(site.path.relative_to(SOURCE)), "test": self._test, "text": text.split("\n")}

    def _fitting(self, frame: FrameType, text: str) -> Iterator[ErrorSite]:
        for site in self._sites.get(frame.f_code.co_filename, ()):
            if site.first <= frame.f_lineno <= site.last and site.is_text_of(text):
                yield site


def record(arguments: list[str], tests: set[str] | None = None) -> dict[str, dict[str, Any]]:
    """Run the tests and return the examples that they gave, by digest."""
    recorder, plain = Recorder(tests), FrostlineError.__init__

    @functools.wraps(plain)
    def noted(self: FrostlineError, **parts: str) -> None:
        plain(self, **parts)
        recorder.note(self, sys._getframe(1))

    FrostlineError.__init__ = noted  # type: ignore[method-assign]
    try:
        pytest.main([*arguments, "-q", "-p", "no:cacheprovider"], plugins=[recorder])
    finally:
        FrostlineError.__init__ = plain  # type: ignore[method-assign]
    return recorder.examples


def _doors() -> Iterator[tuple[CodeType, str]]:
    """What a user calls, by its code: functions, classes and methods of the public names, and commands."""
    for place, prefix in ((frostline, "fl"), (frostline.data, "fl.data"), (frostline.remedies, "fl.remedies")):
        for name, value in vars(place).items():
            if name.startswith("_") or not callable(value):
                continue
            members = vars(value) if inspect.isclass(value) else {"__init__": value}
            for member, function in members.items():
                if inspect.isfunction(function) and (member == "__init__" or not member.startswith("_")):
                    label = f"{prefix}.{name}" + ("" if member == "__init__" else f".{member}")
                    yield inspect.unwrap(function).__code__, label
    for group, prefix in ((app, "frostline"), *((one.typer_instance, f"frostline {one.name}")
                                                for one in app.registered_groups)):  # fmt: skip
        for command in group.registered_commands if group else ():
            if command.callback is not None:
                name = command.name or command.callback.__name__.replace("_", "-")
                yield inspect.unwrap(command.callback).__code__, f"{prefix} {name}"


def _name(item: Any) -> str:
    return f"{Path(item.fspath).relative_to(ROOT)}::{item.originalname}"


@functools.cache
def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except OSError:
        return ""


def _merged(known: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The examples of both, those of this run first; all public calls of both; none of a text that is gone."""
    alive = {site.digest for site in error_sites()}
    both = {**known, **found}
    for digest in set(known) & set(found):
        both[digest]["calls"] = sorted({*known[digest]["calls"], *found[digest]["calls"]})
    kept = [(entry["file"], entry["text"], digest) for digest, entry in both.items() if digest in alive]
    return {digest: both[digest] for _, _, digest in sorted(kept)}


def main() -> None:
    """Run tests, merge what they gave into the store, and write the page."""
    import pages

    known = json.loads(STORE.read_text()) if STORE.exists() else {}
    areas = [f"tests/{path.name}" for path in sorted((ROOT / "tests").iterdir())
             if path.is_dir() and path.name not in {"exams", "house", "shim", "__pycache__"}]  # fmt: skip
    alive = {site.digest for site in error_sites()}
    if sys.argv[1:]:
        found = record(areas if sys.argv[1:] == ["--all"] else sys.argv[1:])
    else:
        expected = situations()
        tests = {test for digest in alive - set(known) for test in expected[digest] if test.startswith(tuple(areas))}
        found = record(sorted({test.split("::")[0] for test in tests}), tests) if tests else {}
    kept = _merged(known, found)
    STORE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    pages.write_errors()
    for site in error_sites():
        if site.digest not in kept:
            sys.stdout.write(f"no example: {site.path.relative_to(ROOT)}:{site.first} {site.text.splitlines()[0]}\n")
    sys.stdout.write(f"{len(kept)} of {len(alive)} errors have an example\n")


if __name__ == "__main__":
    main()
