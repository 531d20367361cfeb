"""Generate models for a while, and tell what became of them. See `docs/reliability.md`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import report, runs
from .drawing import draw


def main() -> int:
    """Parse the options and run; 1 if a model was silently different or crashed."""
    parser = argparse.ArgumentParser(prog="python -m exams.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="how long")
    parser.add_argument("--first", type=int, help="the first seed; else behind the last one in the folder")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where the records go, and add up")
    parser.add_argument("--report", action="store_true", help="only write the report of what the folder holds")
    parser.add_argument("--show", type=int, help="print the model of a seed and what becomes of it, and stop")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        first, stride, until, path = options.work
        runs.work(int(first), int(stride), float(until), Path(path))
        return 0
    if options.show is not None:
        record = runs.examine(options.show)
        sys.stdout.write(f"{draw(options.show).source()}\n{record}\n")
        return 0
    if options.report:
        records = runs.recorded(options.folder)
    else:
        records = runs.run(options.first, options.seconds, options.jobs, options.folder)
    text = f"{report.table(records)}\n\n## Refused, by statement\n\n{report.refused_statements(records)}"
    for verdict, title in (
        ("different", "Silently different"),
        ("crash", "Raw crashes"),
        ("needless", "Needless refusals"),
    ):
        text += f"\n\n## {title}\n\n{report.causes(records, verdict) or 'None.'}"
    text += "\n"
    (options.folder / "report.md").write_text(text)
    sys.stdout.write(text)
    found = report.counts(records)
    return int(bool(found["different"] or found["crash"]))


if __name__ == "__main__":
    sys.exit(main())
