"""From what judges said to figures with intervals."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]

CLINICAL = 2  # severity from which a sickness has to be seen
CLOSED_SHARE = 0.9
TIME_RATIO = 1.5
HARM_POINTS = 1.0
ROUNDING = 1e-9  # 0.82 of 0.1 to 0.9 is 90%


@dataclass(frozen=True)
class Share:
    """`hits` of `total`, with the Wilson interval of 95%."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """Hits over total; NaN of nothing."""
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval."""
        return wilson(self.hits, self.total)

    def __str__(self) -> str:
        if not self.total:
            return "–"
        low, high = self.interval
        return f"{100 * self.value:.1f}% ({self.hits}/{self.total}; {100 * low:.1f}–{100 * high:.1f})"


def wilson(hits: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a share.

    References:
        Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    if not total:
        return 0.0, 1.0
    share = hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(records: Iterable[Record], is_hit: Any) -> Share:
    """How many of the records are hits."""
    found = list(records)
    return Share(sum(bool(is_hit(record)) for record in found), len(found))


def is_seen(record: Record) -> bool:
    """The alarm was raised."""
    return record["alarm"] and not record["error"]


def is_named(record: Record) -> bool:
    """The alarm was raised and the first family is a right answer."""
    return is_seen(record) and bool(record["families"]) and record["families"][0] in record["accepted"]


def is_false_alarm(record: Record) -> bool:
    """An alarm on a healthy network; an error counts as one."""
    return bool(record["alarm"] or record["error"])


@dataclass(frozen=True)
class CheckupScores:
    """How well a judge sees and names.

    Attributes:
        recall: Alarms on sick cases of severity 2 and above.
        first: Among the same cases, those where the first family is a right answer.
        first_of_seen: The same among those with an alarm.
        subclinical: Alarms on cases of severity 1.
        false_alarms: Alarms on healthy controls.
        false_alarms_hard: The same on the hard half.
        families: Recall and first family by family of sickness.
    """

    recall: Share
    first: Share
    first_of_seen: Share
    subclinical: Share
    false_alarms: Share
    false_alarms_hard: Share
    families: dict[str, tuple[Share, Share]]


def score_checkups(records: Sequence[Record]) -> CheckupScores:
    """Scores of one judge."""
    sick = [r for r in records if r["family"] and r["severity"] >= CLINICAL]
    healthy = [r for r in records if not r["family"]]
    by_family: dict[str, list[Record]] = defaultdict(list)
    for record in sick:
        by_family[record["family"]].append(record)
    return CheckupScores(
        share(sick, is_seen),
        share(sick, is_named),
        share(filter(is_seen, sick), is_named),
        share([r for r in records if r["severity"] == 1], is_seen),
        share(healthy, is_false_alarm),
        share([r for r in healthy if r["is_hard"]], is_false_alarm),
        {family: (share(found, is_seen), share(found, is_named)) for family, found in by_family.items()},
    )


def closed(record: Record) -> float:
    """Share of the twin's gap that the repair closed."""
    return (record["healed"] - record["plain"]) / (record["twin"] - record["plain"])


def is_repaired(record: Record) -> bool:
    """At least 90% of the gap closed."""
    return not record["error"] and closed(record) >= CLOSED_SHARE - ROUNDING


def is_lower(record: Record) -> bool:
    """More than a point below the untreated training."""
    return 100 * (record["plain"] - record["healed"]) > HARM_POINTS + ROUNDING


def is_harmed(record: Record) -> bool:
    """A repair was applied and the network ends lower, or an error."""
    return bool(record["error"]) or (bool(record["accepted_repair"]) and is_lower(record))


@dataclass(frozen=True)
class RepairScores:
    """How well a judge repairs.

    Attributes:
        repaired: Sick cases (severity 2 and above, curable) of which 90% of the gap was closed.
        repaired_in_time: The same within 1.5 times the twin's training time.
        time_ratio: Median of healing and training on, over the twin's plain training, in CPU seconds.
        time_ratio_90: Its 90th percentile.
        treated_healthy: Healthy controls in which something was changed.
        harmed: Healthy controls that ended more than a point lower than untreated.
        families: Repaired by family.
    """

    repaired: Share
    repaired_in_time: Share
    time_ratio: float
    time_ratio_90: float
    treated_healthy: Share
    harmed: Share
    families: dict[str, Share]


def score_repairs(records: Sequence[Record]) -> RepairScores:
    """Scores of one judge."""
    sick = [r for r in records if r["family"]]
    healthy = [r for r in records if not r["family"]]
    ratios = sorted(r["time_ratio"] for r in sick) or [math.nan]
    families = sorted({r["family"] for r in sick})
    return RepairScores(
        share(sick, is_repaired),
        share(sick, lambda r: is_repaired(r) and r["time_ratio"] <= TIME_RATIO),
        statistics.median(ratios),
        ratios[math.ceil(0.9 * len(ratios)) - 1],
        share(healthy, lambda r: r["accepted_repair"]),
        share(healthy, is_harmed),
        {family: share([r for r in sick if r["family"] == family], is_repaired) for family in families},
    )
