"""Runs the peers in their environments, and judges what they give."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..build import NETWORKS, environment
from ..stored import LIMIT
from ..trials import EXACT, REFUSED, WRONG, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..stored import Stored

HERE = Path(__file__).parent
SHIM = HERE.parents[2] / "tests" / "shim"  # for a torchvision whose schemas are missing
UNKNOWN = ("paddle", "sklearn", "public")  # frameworks whose layouts weightbridge has no name for, and mixed ones


def weightbridge(networks: Sequence[Stored]) -> list[Verdict]:
    """Weightbridge into the counterparts."""
    asked = [each for each in networks if each.framework not in UNKNOWN]
    with tempfile.TemporaryDirectory() as scratch:
        targets, out = Path(scratch) / "targets", Path(scratch) / "out"
        targets.mkdir()
        out.mkdir()
        for each in asked:
            state = each.counterpart.build().state_dict()
            state = {key: value.numpy() for key, value in state.items() if not key.endswith("num_batches_tracked")}
            np.savez(targets / f"{each.framework}__{each.name}.npz", **state)
        script = HERE / "run_weightbridge.py"
        subprocess.run([environment("weightbridge"), script, NETWORKS, targets, out], check=True, capture_output=True)
        return [_bridged(each, out / f"{each.framework}__{each.name}") for each in asked]


def _bridged(network: Stored, found: Path) -> Verdict:
    facts = {"network": f"{network.framework}/{network.name}", "file": "arrays.npz", "mode": "weightbridge"}
    if found.with_suffix(".txt").exists():
        return Verdict(**facts, outcome=REFUSED, detail=found.with_suffix(".txt").read_text()[:2000])
    module = network.counterpart.build()
    with np.load(found.with_suffix(".npz")) as arrays:
        module.load_state_dict({key: torch.tensor(value) for key, value in arrays.items()}, strict=False)
    error = network.error(module)
    return Verdict(**facts, outcome=EXACT if error <= LIMIT else WRONG, error=error)


def onnx_converters() -> list[Verdict]:
    """onnx2torch and onnx2pytorch, into modules of their own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "errors.json"
        script = HERE / "run_onnx_converters.py"
        settings = {**os.environ, "PYTHONPATH": str(SHIM), "OMP_NUM_THREADS": "1"}
        command = [environment("onnx_converters"), script, NETWORKS, out]
        subprocess.run(command, check=True, capture_output=True, env=settings)
        results = json.loads(out.read_text())
    verdicts = []
    for tool, errors in results.items():
        for network, found in errors.items():
            facts = {"network": network, "file": "model.onnx", "mode": tool}
            if isinstance(found, str):
                verdicts.append(Verdict(**facts, outcome=REFUSED, detail=found[:2000]))
            else:
                verdicts.append(Verdict(**facts, outcome=EXACT if found <= LIMIT else WRONG, error=found))
    return verdicts
