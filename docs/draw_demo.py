"""Draws `docs/demo.svg` from the demo's own result: `python docs/draw_demo.py frostline-demo/result.json`."""

from __future__ import annotations

import json
import sys
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt


def main() -> None:
    """Training loss over seconds, the cost of splitting and filling included."""
    mpl.rcParams["svg.hashsalt"] = "frostline"
    result = json.loads(Path(sys.argv[1]).read_text())
    figure, axes = plt.subplots(figsize=(7, 3))
    for row in result["by_time"][1:]:
        start = row["split_s"] + row["fill_s"]
        seconds = [start + s for s in accumulate([row["epoch_s"]] * len(row["losses"]))]
        axes.plot(seconds, row["losses"], marker="o", markersize=3, label=f"{row['name']}: {row['total_s']:.2f} s")
    axes.set(xlabel="seconds", ylabel="training loss", yscale="log", xlim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("demo.svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
