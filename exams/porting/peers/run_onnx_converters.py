"""Runs onnx2torch and onnx2pytorch on the ONNX files of the exam.

They make a module of their own from the graph, so that only its outputs can be compared. Run as
`python run_onnx_converters.py NETWORKS OUT`: `OUT` is a JSON of errors of the outputs by tool and network, or the text
of what was raised.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx2pytorch
import onnx2torch
import torch

TOOLS = {"onnx2torch": onnx2torch.convert, "onnx2pytorch": onnx2pytorch.ConvertModel}


def golden(folder: Path, kind: str) -> list[torch.Tensor]:
    """Golden tensors."""
    with np.load(folder / "golden.npz") as file:
        values = [torch.tensor(file[f"{kind}{index}"]) for index in range(sum(key.startswith(kind) for key in file))]
    return [value.long() if value.dtype == torch.int32 else value for value in values]


def error(tool: str, file: Path) -> float:
    """The largest difference of the outputs, in shares of the largest."""
    module = TOOLS[tool](onnx.load(file)).eval()
    with torch.no_grad():
        found = module(*golden(file.parent, "input"))
    (wanted,) = golden(file.parent, "output")
    found = found[0] if isinstance(found, (list, tuple)) else found
    if found.shape != wanted.shape:
        return float("inf")
    return float((found - wanted).abs().max() / wanted.abs().max())


def main() -> None:
    """Convert each by each."""
    warnings.simplefilter("ignore")
    networks, out = (Path(name) for name in sys.argv[1:])
    results: dict[str, dict[str, float | str]] = {tool: {} for tool in TOOLS}
    files = [
        file for file in networks.glob("*/*/model.onnx") if not file.parent.name.startswith("silero")
    ]  # has a state
    for file in sorted(files):
        for tool in TOOLS:
            try:
                found: float | str = error(tool, file)
            except Exception as problem:  # a refusal of any kind is a result
                found = f"{type(problem).__name__}: {problem}"
            results[tool][f"{file.parent.parent.name}/{file.parent.name}"] = found
    out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
