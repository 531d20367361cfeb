"""A pytest plugin: which lines of the library each test runs.

`pytest -p exams.mutants.lines` writes them to the file that FROSTLINE_LINES names.
The map is what makes a mutant cheap: only the tests that run its line are asked.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

_PACKAGE = f"{os.sep}src{os.sep}frostline{os.sep}"
_seen: dict[str, dict[str, Any]] = {}
_lines: set[tuple[str, int]] = set()
_failed: set[str] = set()


def _in_frame(frame: FrameType, event: str, _: Any) -> Any:
    _lines.add((frame.f_code.co_filename, frame.f_lineno))
    return _in_frame


def _at_call(frame: FrameType, event: str, _: Any) -> Any:
    return _in_frame(frame, event, _) if _PACKAGE in frame.f_code.co_filename else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Look at every line that this test runs."""
    _lines.clear()
    started = time.perf_counter()
    threading.settrace(_at_call)
    sys.settrace(_at_call)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        files: dict[str, list[int]] = {}
        for name, line in sorted(_lines):
            files.setdefault(name.split(_PACKAGE)[1], []).append(line)
        _seen[item.nodeid] = {"elapsed_s": time.perf_counter() - started, "lines": files}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test that fails as the tree is cannot notice a mutant."""
    if report.failed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write the map down."""
    passing = {name: record for name, record in _seen.items() if name not in _failed}
    Path(os.environ["FROSTLINE_LINES"]).write_text(json.dumps(passing))
