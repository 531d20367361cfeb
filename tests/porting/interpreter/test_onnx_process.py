import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from frostline.porting.interpreter import onnx_process

MODEL = Path(__file__).parents[1] / "files" / "networks" / "onnx" / "lstm" / "model.onnx"


def ended(folder, **changes):
    task = {
        "model": str(MODEL), "folder": str(MODEL.parent), "further": "", "values": [], "inputs": ["x"],
        "is_quantised": False, "memory_bytes": 1 << 28, "cpu_s": 20, **changes,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(task))
    np.savez(folder / "inputs.npz", np.ones((3, 7, 6), "f4"))
    program = Path(onnx_process.__file__).read_text()
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, timeout=120)
    return sorted(one.name for one in folder.iterdir() if one.name not in ("run.json", "inputs.npz"))


def test_the_process_leaves_outputs_or_the_name_of_an_error(tmp_path):
    import onnxruntime

    (name,) = (one.name for one in onnxruntime.InferenceSession(MODEL).get_inputs())
    assert ended(tmp_path, inputs=[name]) == ["names.json", "outputs.npz"]
    (tmp_path / "outputs.npz").unlink()
    (tmp_path / "names.json").unlink()
    assert ended(tmp_path, inputs=["no such input"]) == ["error.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps the limit of memory")
def test_memory_beyond_the_limit_is_refused(tmp_path):
    program = Path(onnx_process.__file__).read_text().rpartition("if __name__")[0]
    program += "limit(1 << 26, 60)\ntry:\n    bytearray(1 << 30)\nexcept MemoryError:\n    sys.exit(7)\n"
    assert subprocess.run([sys.executable, "-c", f"import sys\n{program[program.index('import json'):]}"],
                          check=False, timeout=120).returncode == 7  # fmt: skip
