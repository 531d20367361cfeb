"""Records one real example of every error: the tests raise them, this keeps the text and the test's name.

python docs/error_examples.py             all tests that provoke errors (some minutes)
python docs/error_examples.py tests/data  the errors of one area, merged into docs/error_examples.json

An entry is stored under a digest of the error's source text, so an error whose text changes loses its example until
the tests run here again.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from error_sites import ErrorSite, error_sites

from frostline.core.errors import FrostlineError

ROOT = Path(__file__).parents[1]
STORE = Path(__file__).with_name("error_examples.json")
_PROVOKES = re.compile(r"raises|exit_code|refus|Error|NotCacheable|LayerNotFound|capsys|stderr")
_TEMPORARY = re.compile(r"/tmp/pytest-of-[^/\s]+/pytest-\d+/(?:popen-gw\d+/)?[^/\s'\",;:)]+")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_LONGEST = 900  # characters; a longer text is of no use as an example


class Recorder:
    """A pytest plugin that keeps the shortest text of each error, and the test that provoked it."""

    def __init__(self) -> None:
        self.examples: dict[str, dict[str, str]] = {}
        self._sites = _by_file()
        self._test = ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the tests whose source mentions an error."""
        items[:] = [item for item in items if hasattr(item, "function") and _PROVOKES.search(_source(item.function))]

    def pytest_runtest_setup(self, item: Any) -> None:
        """Remember which test runs."""
        self._test = f"{Path(item.fspath).relative_to(ROOT)}::{item.originalname}"

    def note(self, error: FrostlineError, path: str, line: int) -> None:
        """Keep this error if it is a shorter example of its place than the one before."""
        for site in self._sites.get(path, ()):
            if site.first <= line <= site.last and len(str(error)) <= _LONGEST:
                text = _ADDRESS.sub("0x...", _TEMPORARY.sub("work", str(error)))
                known = self.examples.get(site.digest)
                if known is None or (len(text), text) < (len(known["text"]), known["text"]):
                    self.examples[site.digest] = {"text": text, "test": self._test}


def record(arguments: list[str]) -> dict[str, dict[str, str]]:
    """Run the tests and return the examples that they gave, by digest."""
    recorder, plain = Recorder(), FrostlineError.__init__

    @functools.wraps(plain)
    def noted(self: FrostlineError, **parts: str) -> None:
        plain(self, **parts)
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_name == "__init__":
            frame = frame.f_back
        if frame is not None:
            recorder.note(self, frame.f_code.co_filename, frame.f_lineno)

    FrostlineError.__init__ = noted  # type: ignore[method-assign]
    try:
        pytest.main([*arguments, "-q", "-p", "no:cacheprovider"], plugins=[recorder])
    finally:
        FrostlineError.__init__ = plain  # type: ignore[method-assign]
    return recorder.examples


def _by_file() -> dict[str, list[ErrorSite]]:
    found: dict[str, list[ErrorSite]] = {}
    for site in error_sites():
        found.setdefault(str(site.path), []).append(site)
    return found


@functools.cache
def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except OSError:
        return ""


def main() -> None:
    """Run the tests and merge what they gave into the store; entries of texts that are gone are deleted."""
    known = json.loads(STORE.read_text()) if STORE.exists() else {}
    areas = [f"tests/{path.name}" for path in sorted((ROOT / "tests").iterdir())
             if path.is_dir() and path.name not in {"exams", "house", "shim", "__pycache__"}]  # fmt: skip
    known |= record(sys.argv[1:] or areas)
    alive = {site.digest for site in error_sites()}
    kept = {digest: known[digest] for digest in sorted(known) if digest in alive}
    STORE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{len(kept)} of {len(alive)} errors have an example\n")


if __name__ == "__main__":
    main()
