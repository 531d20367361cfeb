"""What a rule is: a pure function from evidence to findings, under one stable code.

A rule returns `issue`, `tip`, `passed`, `not applicable` where the network has nothing of the kind, or `not judged`
where it could not be measured; both with the reason. It imports no torch: evidence is numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from frostline.core.records import Finding
from frostline.diagnosis.rules.records import Evidence

BY_CHECKUP = "(run `checkup`)"  # what would judge, in the text of a finding that a monitor cannot give


class Rule(Protocol):
    """A module of this folder."""

    ABOUT: About

    def check(self, evidence: Evidence) -> tuple[Finding, ...]:
        """Judge."""
        ...


@dataclass(frozen=True)
class About:
    """What all findings of a rule share.

    Attributes:
        code: Stable, `FL101`.
        title: In a few words.
        family: The sickness.
        advice: What to do.
        severity: 0 to 10; findings are shown most severe first.
    """

    code: str
    title: str
    family: str
    advice: str
    severity: int

    def issue(self, why: str, measured: float | None, limit: float | None, layer: str | None = None) -> Finding:
        """The rule is broken, and training suffers."""
        return self._finding("issue", why, measured, limit, layer)

    def tip(self, why: str, measured: float | None, limit: float | None, layer: str | None = None) -> Finding:
        """Worth knowing; training may be fine."""
        return self._finding("tip", why, measured, limit, layer)

    def passed(self, why: str, measured: float | None = None, limit: float | None = None) -> Finding:
        """Measured, and well."""
        return self._finding("passed", why, measured, limit, None)

    def not_applicable(self, why: str) -> Finding:
        """Nothing to judge, and why."""
        return self._finding("not applicable", why, None, None, None)

    def not_judged(self, why: str) -> Finding:
        """Something to judge that could not be seen, and why."""
        return self._finding("not judged", why, None, None, None)

    def left_to_checkup(self, why: str) -> Finding:
        """As `not_judged`, of what a checkup with a loss looks at; `why` has no full stop."""
        return self.not_judged(f"{why} {BY_CHECKUP}.")

    def _finding(
        self, outcome: str, why: str, measured: float | None, limit: float | None, layer: str | None
    ) -> Finding:
        advice = self.advice if outcome in {"issue", "tip"} else "nothing."
        return Finding(self.code, self.title, self.family, layer, outcome, measured, limit, why, advice)
