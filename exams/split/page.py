"""The page of the exam, and the JSON of its verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import Case

DOCS = Path(__file__).parents[2] / "docs"
STORE, PAGE = DOCS / "coverage.json", DOCS / "coverage.md"


class Verdicts:
    """Verdicts by kind, name and cut, on the disk after each model."""

    def __init__(self, store: Path = STORE) -> None:
        self.store = store
        self._read()

    def of(self, case: Case) -> dict[str, Any]:
        """What is known of a model; nothing if it was another variant."""
        row = self.found.get(case.kind, {}).get(case.name, {})
        return row["verdicts"] if row.get("variant") == case.variant else {}

    def keep(self, case: Case, found: dict[str, dict[str, Any]]) -> None:
        """Keep what was found of a model; another run may have written meanwhile."""
        self._read()
        verdicts = {**self.of(case), **found}
        self.found.setdefault(case.kind, {})[case.name] = {"variant": case.variant, "verdicts": verdicts}
        self.store.write_text(json.dumps(self.found, indent=1, sort_keys=True) + "\n")

    def _read(self) -> None:
        self.found: dict[str, dict[str, Any]] = json.loads(self.store.read_text()) if self.store.exists() else {}


def line(case: Case, found: dict[str, dict[str, Any]]) -> str:
    """A model in one line; what must not be in more."""
    parts = [f"{cut}: {own['outcome']}" + (f" {own['seconds']} s" if "seconds" in own else "")
             for cut, own in found.items()]  # fmt: skip
    bad = [f"    {own.get('where', cut)}: {own['detail']}" for cut, own in found.items()
           if own["outcome"] not in ("equal to the bit", "equal") and not cut.startswith("torch.")]  # fmt: skip
    return "\n".join([f"{case.kind} {case.name} ({case.variant}): " + "; ".join(parts), *bad])


def write(kept: Verdicts, cases: dict[str, list[Case]]) -> None:
    """Write the page."""
