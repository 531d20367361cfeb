"""How many damaged files each reader has met: counts that add up over runs, and their page, `docs/fuzz-readers.md`."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostline.porting import readers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STORE = Path(__file__).parents[2] / "docs" / "fuzz-readers.json"
VERDICTS = ("source", "refused", "broken")
_HEAD = """# Damaged files against every reader

Written by `python -m exams.fuzz.readers` (a part of `make fuzz`), which adds its cases to these. Each case is one
small file of a real framework, damaged in a way that its number decides, and read by every reader. A case is counted
for the reader of the intact file. A law is broken by another error than `PortError`, by more than a second of
processor time, 2 GiB of memory, a dead process, another file opened, anything run, or a tensor that is not as
announced. What broke one was mended; `--show FILE NUMBER` runs a case again.

"""


def version() -> str:
    """What stands for the present code of all readers: the start of its digest."""
    whole = hashlib.sha256()
    for path in sorted(Path(readers.__path__[0]).glob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


class Counts:
    """Cases by reader and file, of all versions and of the present one.

    Args:
        store: A JSON file, which is made if there is none.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        found: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
        self.total: dict[str, dict[str, Counter[str]]] = _counters(found.get("total", {}))
        latest = found.get("latest", {})
        is_same = latest.get("version") == version()
        self.latest: dict[str, dict[str, Counter[str]]] = _counters(latest.get("cases", {}) if is_same else {})

    def num_cases(self, reader: str, fixture: str) -> int:
        """How many cases of a file were run; the next one has this number."""
        return self.total.get(reader, {}).get(fixture, Counter()).total()

    def add(self, reader: str, fixture: str, verdicts: Iterable[str]) -> None:
        """Count verdicts, and write them down."""
        found = Counter("broken" if verdict.startswith("broken") else verdict for verdict in verdicts)
        for counts in (self.total, self.latest):
            counts.setdefault(reader, {}).setdefault(fixture, Counter()).update(found)
        self._store.parent.mkdir(parents=True, exist_ok=True)
        latest = {"version": version(), "date": time.strftime("%Y-%m-%d"), "cases": self.latest}
        self._store.write_text(json.dumps({"latest": latest, "total": self.total}, indent=1, sort_keys=True) + "\n")
        self._store.with_suffix(".md").write_text(f"{_HEAD}{self.table()}")

    def table(self) -> str:
        """Cases by reader, as Markdown."""
        lines = ["| reader | files | cases | read | refused | law broken | with the present version | law broken |"]
        lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
        for reader, files in sorted(self.total.items()):
            found, latest = _sum(files), _sum(self.latest.get(reader, {}))
            cells = [found.total(), *(found[verdict] for verdict in VERDICTS), latest.total(), latest["broken"]]
            lines.append(f"| {reader} | {len(files)} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
        return "\n".join(lines) + "\n"


def _counters(found: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, Counter[str]]]:
    return {reader: {name: Counter(mine) for name, mine in files.items()} for reader, files in found.items()}


def _sum(files: Mapping[str, Counter[str]]) -> Counter[str]:
    whole: Counter[str] = Counter()
    for mine in files.values():
        whole.update(mine)
    return whole
