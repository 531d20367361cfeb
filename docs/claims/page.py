"""Writes `README.md`, the one page of all statements, from the results of the experiments beside it."""

from __future__ import annotations

import json

from reporting import HERE, table

ORDER = ("gradients_by_depth", "dead_relus", "elu_price", "batchnorm", "clipping", "depth")


def main() -> None:
    """One table; every row links to its experiment."""
    rows, about = [], []
    for name in ORDER:
        result = json.loads((HERE / f"{name}.json").read_text())
        for claim in result["claims"]:
            rows.append((claim["statement"], claim["measured"], f"**{claim['verdict']}**", f"[{name}]({name}.md)"))
        seconds, date = result["processor_seconds"], result["date"]
        about.append(f"* [{name}.py]({name}.py): {seconds:.0f} s of processor time; {date}; {result['machine']}")
    lines = [
        "# The statements, measured",
        "",
        "What the source text says about sick training and about reuse, as experiments on scikit-learn's digits",
        "(real scans) and, for recurrent networks, on a synthetic sequence task. Each has a",
        "script, a table and a picture. They are small networks on small data sets: a verdict says what was seen here,",
        "not what is true everywhere. The verdicts are computed by the scripts from their figures; the rule of each",
        "stands in the script.",
        "",
        *table(("statement", "measured", "verdict", "experiment"), rows),
        "",
        "`make claims` runs all of them and writes these pages (each under 90 s of processor time on one core,",
        "`depth` about an hour).",
        "",
        *about,
        "",
    ]
    (HERE / "README.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
