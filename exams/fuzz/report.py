"""Counts of a run as tables, for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .kinds import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterable

_FAMILY = {kind.tag: name for name, kinds in FAMILIES.items() for kind in kinds}
_COLUMNS = ("same", "refused", "needless", "different", "crash")


def counts(records: Iterable[dict[str, Any]]) -> Counter[str]:
    """Models by verdict; `needless` are refused ones that could be cached."""
    found: Counter[str] = Counter()
    for record in records:
        found[record["verdict"]] += 1
        found["needless"] += record["needless"]
    return found


def table(records: list[dict[str, Any]]) -> str:
    """Counts, all and by family of statements in the model, as Markdown."""
    rows = {"all models": counts(records)}
    for family in FAMILIES:
        rows[f"with a statement of `{family}`"] = counts(
            record for record in records if any(_FAMILY[tag[2:]] == family for tag in record["tags"])
        )
    lines = [
        "| models | valid | same | refused | of these, could be cached | silently different | raw crashes |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in rows.items():
        valid = sum(found[key] for key in ("same", "refused", "different", "crash"))
        lines.append(f"| {name} | {valid:,} | " + " | ".join(f"{found[key]:,}" for key in _COLUMNS) + " |")
    all_found = rows["all models"]
    cacheable = all_found["same"] + all_found["needless"]
    share = all_found["needless"] / cacheable if cacheable else 0.0
    lines.append(f"\nNot valid as plain models, and left out: {all_found['invalid']:,}.")
    lines.append(f"Refused of those that could be cached: {share:.1%}.")
    return "\n".join(lines)


def causes(records: list[dict[str, Any]], verdict: str) -> str:
    """The smallest programs of a verdict (or `needless`), most frequent first, one for each set of statements."""
    chosen = [r for r in records if (r["needless"] if verdict == "needless" else r["verdict"] == verdict)]
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in chosen:
        groups.setdefault(
            " + ".join(sorted(set(record.get("cause", record["tags"])))) or "(first and out alone)", []
        ).append(record)
    parts = []
    for name, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        least = min(group, key=lambda record: len(record.get("small", "")) or 10**6)
        parts.append(
            f"- **{len(group)}** `{name}` (seed {least['seed']}): {least.get('small_text', least['text'])[:300]}"
        )
    return "\n".join(parts)
