"""Run the exam of splitting. `docs/coverage.md` says what the verdicts mean.

    python -m exams.split [--only timm transformers switches] [--names resnet bert] [--seconds 240] [--fresh]

Verdicts are kept after each model in `docs/coverage.json`: a run that is interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from . import page, switches, timm_models, transformer_models
from .peers import PEERS
from .trials import trial

if TYPE_CHECKING:
    from .cases import Case

KINDS = {"timm": timm_models.cases, "transformers": transformer_models.cases, "switches": switches.cases}


def chosen(kinds: list[str], names: list[str] | None) -> list[Case]:
    """The cases in an order of no meaning, so that a run that is interrupted has judged a sample of each kind."""
    cases = [case for kind in kinds for case in KINDS[kind]() if not names or case.name in names]
    return sorted(cases, key=lambda case: hashlib.sha256(f"{case.kind}/{case.name}".encode()).digest())


def wanted(case: Case, kept: page.Verdicts, options: argparse.Namespace) -> list[str]:
    """The names of the verdicts that are to be found of a case: those that are missing, unless more was asked for."""
    names = [*case.cuts]
    if case.has_peers and not options.no_peers:
        names += [f"{peer}: {cut}" for peer in PEERS for cut in case.cuts]
    known = {} if options.fresh or options.names else kept.of(case)
    return [name for name in names if name not in known or known[name]["outcome"] in options.again]


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="python -m exams.split", description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(KINDS), choices=KINDS, help="kinds of models")
    parser.add_argument("--names", nargs="+", help="models of these names, judged again")
    parser.add_argument("--again", nargs="+", default=[], help="judge models again that had these verdicts")
    parser.add_argument("--fresh", action="store_true", help="judge all models again, not only those without a verdict")
    parser.add_argument("--seconds", type=float, default=240.0, help="of the processor, for a model at one cut")
    parser.add_argument("--gib", type=int, default=9, help="of memory, for a model")
    parser.add_argument("--jobs", type=int, default=1, help="models at the same time")
    parser.add_argument("--no-peers", action="store_true", help="without a trace and an export beside it")
    parser.add_argument("--page-only", action="store_true", help="write the page from the verdicts at hand")
    options = parser.parse_args()
    cases = chosen(options.only, options.names)
    kept = page.Verdicts()
    if not options.page_only:
        warnings.simplefilter("ignore")
        sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
        from helpers_vision import import_torchvision

        import_torchvision()
        import timm  # noqa: F401  # before the forks
        import transformers

        transformers.logging.set_verbosity_error()
        todo = [(case, names) for case in cases if (names := wanted(case, kept, options))]
        with ThreadPoolExecutor(options.jobs) as threads:
            runs = {threads.submit(trial, case, names, options.seconds, options.gib): case for case, names in todo}
            for run in as_completed(runs):
                kept.keep(runs[run], run.result())
                sys.stdout.write(page.line(runs[run], run.result()) + "\n")
                sys.stdout.flush()
    page.write(kept, {kind: make() for kind, make in KINDS.items()})


if __name__ == "__main__":
    main()
