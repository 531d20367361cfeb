"""What a judge says about a case."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether the judge raises the alarm, and the families it names, likeliest first."""

    alarm: bool
    families: tuple[str, ...]
    why: str = ""
