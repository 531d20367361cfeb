"""Run the benchmarks and write `docs/benchmarks.md`.

python benchmarks/run.py [--only p1 p4] [--quick] [--device cuda]
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from pathlib import Path

import torch
from common import machine

NAMES = {
    "p1": "p1_epoch", "p2": "p2_fill", "p3": "p3_epochs", "p4": "p4_gather", "p5": "p5_monitor", "faster": "faster",
    "fold": "fold", "reopen": "reopen", "port": "port", "warm": "warm", "checkup": "checkup", "sweep": "sweep",
    "thaw": "thaw", "open": "opening", "climb": "climb", "length": "lengths", "views": "views", "planner": "planner",
    "views-photos": "views_photos", "rivals": "rivals", "scale": "scale", "ray": "ray_fill", "stores": "stores",
    "limits": "limits",
}  # fmt: skip
DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Run what was asked for; results of earlier runs of the others stay."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", default=list(NAMES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No GPU here: nothing was measured.")
    store = DOCS / "benchmarks.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    for name in options.only:
        module = importlib.import_module(NAMES[name])
        figures = module.run(options.device, is_quick=options.quick)
        title = (module.__doc__ or "").splitlines()[0]
        print(title, json.dumps(figures, indent=1), sep="\n", flush=True)
        command = f"python benchmarks/run.py --only {name} --device {options.device}"
        results[f"{name} {options.device}"] = {
            "title": title, "machine": machine(), "date": time.strftime("%Y-%m-%d"), "command": command,
            "figures": figures,
        }  # fmt: skip
        if not options.quick:
            store.write_text(json.dumps(results, indent=1) + "\n")
            (DOCS / "benchmarks.md").write_text(_page(results))


def _page(results: dict) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Ratios of one run; written by `make bench`. What was missed is said in `status.md`.",
        "",
    ]
    for _, result in sorted(results.items()):
        lines += [f"## {result['title']}", "", f"{result['machine']}; {result['date']}; `{result['command']}`", "",
                  "| figure | value |", "|---|---|"]  # fmt: skip
        for figure, value in result["figures"].items():
            lines.append(f"| {figure} | {f'{value:.3g}' if isinstance(value, float) else value} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
