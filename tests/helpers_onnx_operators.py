"""Small graphs of ONNX that ONNX Runtime ran, as `tests/porting/make/onnx_operators.py` stored them."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

import frostline as fl
from frostline.porting.proof.module_outputs import difference, outputs_of
from frostline.porting.readers import onnx
from frostline.porting.readers.weight_file import WeightFile
from frostline.porting.scaffold.module_text import module_text
from helpers_scaffold import built

FILES = Path(__file__).parent / "porting" / "files" / "scaffold"


@cache
def stored(kind="operators"):
    """All arrays, by name."""
    with np.load(FILES / f"{kind}.npz") as file:
        return dict(file)


def written(name, folder, kind="operators"):
    """The text of the module for a graph; the graph lies in the folder afterwards."""
    path = folder / f"{name}.onnx"
    path.write_bytes(stored(kind)[name].tobytes())
    with WeightFile(path) as file:
        return module_text(onnx.read(file), str(path))


def error(name, folder, kind="operators"):
    """How far the written module, filled by the port, is from what ONNX Runtime gave."""
    model = built(written(name, folder, kind), folder).eval()
    if list(model.state_dict()):
        fl.port(folder / f"{name}.onnx", model)
    arrays = stored(kind)
    inputs = tuple(torch.tensor(arrays[f"{name}:{index}"]) for index in range(9) if f"{name}:{index}" in arrays)
    expected = [torch.tensor(arrays[f"{name}:out{index}"]) for index in range(9) if f"{name}:out{index}" in arrays]
    assert expected
    found = outputs_of(model, inputs) or []
    assert len(found) == len(expected)
    return difference(found, expected)
