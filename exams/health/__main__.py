"""Run the health exam, or decide its ground truth. See `docs/exam.md` for what the figures mean."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import parallel, report, runner, seeds, truth
from .controls import SEEDS
from .judges import JUDGES

RESULTS = Path("build/health-exam.json")  # one record per case and judge: megabytes, so not kept
REPORT = Path("docs/exam.md")


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="python -m exams.health", description=__doc__)
    parser.add_argument("--judge", nargs="+", default=list(JUDGES), choices=list(JUDGES), help="who is examined")
    parser.add_argument("--part", default="all", choices=("tuning", "held_out", "all"), help="which cases")
    parser.add_argument("--seeds", nargs="+", type=int, help="only cases from these seeds; with --decide: to add")
    parser.add_argument("--share", type=int, default=1, help="with --decide --seeds: one of so many groups, drawn")
    parser.add_argument("--only", help="one sickness (V1), family (vanishing), control (sparse_80), or healthy")
    parser.add_argument(
        "--small", action="store_true", help="a tenth of the cases, spread over families and severities"
    )
    parser.add_argument("--repair", action="store_true", help="also let the judges repair; several times as long")
    parser.add_argument("--repair-only", action="store_true", help="repair without checking up")
    parser.add_argument("--heal-share", type=float, default=runner.HEAL_SHARE, help="share of the training heal gets")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON to write, or to add to with --merge")
    parser.add_argument("--merge", action="store_true", help="keep earlier results of other judges, cases and kinds")
    parser.add_argument("--report", type=Path, default=REPORT, help="Markdown to write")
    parser.add_argument("--report-only", action="store_true", help="write the report from the results at hand")
    parser.add_argument("--decide", action="store_true", help="decide the ground truth anew instead (an hour)")
    parser.add_argument("--missing", action="store_true", help="only what is not decided (with --merge: examined) yet")
    options = parser.parse_args()
    parallel.one_thread()
    if options.decide and options.seeds:
        if sorted(options.seeds) != [*range(len(SEEDS), len(SEEDS) + len(options.seeds))]:
            parser.error(f"--decide adds the seeds that follow {SEEDS[-1]}, without a gap")
        seeds.add(options.seeds, options.jobs, options.only, missing=options.missing, share=options.share)
        return
    if options.decide:
        truth.update(options.jobs, options.only, missing=options.missing)
        return
    if not options.report_only:
        runner.run(options)
    sys.stdout.write(report.write(options.results, options.report) + "\n")


if __name__ == "__main__":
    main()
