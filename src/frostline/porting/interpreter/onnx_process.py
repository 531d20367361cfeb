"""The program of the process that runs an ONNX graph: `run.json` and `inputs.npz` to `outputs.npz`, or `error.txt`.

The process is started with the text of this file and does not import this library: PyTorch would take seconds to load,
and memory that the limit could not distinguish from the memory of the graph.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def main(folder: Path) -> None:
    """Run the graph that `run.json` in a folder describes, within the limits there; save the outputs in the folder."""
    task = json.loads((folder / "run.json").read_text())
    import onnxruntime

    try:
        limit(task["memory_bytes"], task["cpu_s"])
        with np.load(folder / "inputs.npz") as given:
            names, inputs = task["inputs"], [given[f"arr_{index}"] for index in range(len(task["inputs"]))]
        session = _session(task, onnxruntime)
        wanted = task["values"] or [one.name for one in session.get_outputs()]
        found = zip(wanted, session.run(wanted, dict(zip(names, inputs, strict=True))), strict=True)
        floats = {name: one for name, one in found if isinstance(one, np.ndarray) and one.dtype.kind == "f"}
        (folder / "names.json").write_text(json.dumps(list(floats)))
        np.savez(folder / "outputs.npz", *floats.values())
    except Exception as error:  # exceptions of ONNX Runtime have no common class
        (folder / "error.txt").write_text(type(error).__name__)


def limit(memory_bytes: int, cpu_s: int) -> None:
    """Limit the processor time of this process and its memory beyond the present size, if the system can."""
    try:
        import resource
    except ImportError:  # Windows: only the timeout of the parent process applies
        return
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    statistics = Path("/proc/self/statm")
    if statistics.exists():  # other systems, such as macOS, do not enforce this limit
        size = int(statistics.read_text().split()[0]) * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _session(task: dict[str, Any], onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", task["folder"])
    if task["is_quantised"]:
        # Higher levels compute products with dequantized weights in integers, with errors of 4e-3.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    further = bytes.fromhex(task["further"])
    model = Path(task["model"]).read_bytes() + further if further else task["model"]
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main(Path.cwd())
