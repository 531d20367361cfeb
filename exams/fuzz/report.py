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


def num_valid(found: Counter[str]) -> int:
    """Models that are valid as plain models, by counts."""
    return sum(found[key] for key in ("same", "refused", "different", "crash"))


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
        lines.append(f"| {name} | {num_valid(found):,} | " + " | ".join(f"{found[key]:,}" for key in _COLUMNS) + " |")
    all_found = rows["all models"]
    cacheable = all_found["same"] + all_found["needless"]
    share = all_found["needless"] / cacheable if cacheable else 0.0
    lines.append(f"\nNot valid as plain models, and left out: {all_found['invalid']:,}.")
    lines.append(f"Refused of those that could be cached: {share:.1%}.")
    return "\n".join(lines)


def refused_statements(records: list[dict[str, Any]], most: int = 30) -> str:
    """Statements by how many needless refusals they add to what is usual: needless ones, of how many cacheable ones."""
    needless, cacheable = Counter[str](), Counter[str]()
    for record in records:
        if record["needless"] or record["verdict"] == "same":
            cacheable.update(set(record["tags"]))
            needless.update(set(record["tags"]) if record["needless"] else ())
    found = counts(records)
    usual = found["needless"] / max(1, found["needless"] + found["same"])
    ranked = sorted(needless, key=lambda tag: usual * cacheable[tag] - needless[tag])[:most]
    return "\n".join(f"- `{tag}`: {needless[tag]:,} of {cacheable[tag]:,}" for tag in ranked) or "None."


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
