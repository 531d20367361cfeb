"""Files that carry their architecture, without a module: one is written, filled by the port, and compared."""

from __future__ import annotations

import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.core.errors import AmbiguousPortError, FrostlineError
from frostline.porting.interpreter import onnx_runtime
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.readers.formats import open_source
from frostline.recipes.port import port
from frostline.recipes.port_files import CLASS, write_scaffold

from .stored import LIMIT
from .trials import AMBIGUOUS, CRASHED, EXACT, REFUSED, WRONG, Verdict
from .workers import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from .stored import Stored

MODE = "scaffold"
_NO_GRAPH = ("checkpoint", "training", "objects", "named")  # kinds of files that hold no architecture
_OF_ONNX_RUNTIME = 0.01  # its outputs are compared in shares of this at least: its sigmoids are exact to 1e-7 only
_OF_FRAMEWORKS = 1e-30  # golden outputs in shares of their largest value, all zeros too
Golden = tuple[list["Tensor"], list["Tensor"]]


def scaffolds(networks: list[Stored], files: Any, public: Path) -> Iterator[Task]:
    """One task for each file that may have an architecture: of the built networks, and ONNX files of public packages.

    Args:
        networks: The built networks.
        files: Gives the files of a network.
        public: The folder of the packages.
    """
    for network in networks:
        name = f"{network.framework}/{network.name}"
        for file in files(network):
            if file not in _NO_GRAPH:
                yield Task(name, (network.path / file).name, MODE, partial(of_network, network, file))
    for path in sorted(public.rglob("*.onnx")):
        name = f"public/{path.relative_to(public).parts[0]}"
        yield Task(name, path.name, MODE, partial(of_package, name, path))


def of_network(network: Stored, file: str) -> Verdict | None:
    """The module that is written from a file of a built network; None if the file has no architecture."""
    path = network.path / file
    if not _has_architecture(path):
        return None
    return _attempt(f"{network.framework}/{network.name}", path, _stored(network, file), _OF_FRAMEWORKS)


def of_package(name: str, path: Path) -> Verdict | None:
    """The module that is written from an ONNX file; None if no port reads it, or ONNX Runtime fails."""
    golden = _of_onnx_runtime(path)
    return _attempt(name, path, golden, _OF_ONNX_RUNTIME) if golden else None


def _has_architecture(path: Path) -> bool:
    try:
        with open_source(path) as (source, _):
            return source.framework in ("keras", "onnx") and bool(source.layers)
    except FrostlineError:
        return False


def _stored(network: Stored, file: str) -> Golden:
    """The golden arrays, images of Keras with their channels on axis 1."""
    found: Golden = ([], [])
    with np.load(network.path / "golden.npz") as arrays:
        for kind, values in zip(("input", "output"), found, strict=True):
            count = sum(name.startswith(kind) for name in arrays)
            values += [torch.tensor(arrays[f"{kind}{index}"]) for index in range(count)]
    if file.endswith(".onnx"):
        return tuple([_whole(one) for one in values] for values in found)
    is_moved = network.counterpart.moved
    return tuple(
        [one.movedim(-1, 1) if is_moved and one.ndim > 3 else _whole(one) for one in values] for values in found
    )


def _whole(value: Tensor) -> Tensor:
    return value.long() if value.dtype == torch.int32 else value


def _of_onnx_runtime(path: Path) -> Golden | None:
    """Other random inputs than those of the port, and what ONNX Runtime gives."""
    try:
        with open_source(path) as (source, _):
            inputs, outputs = onnx_runtime.run(source, str(path), seed=1)
    except NotInterpretedError:
        return [], []
    except FrostlineError:
        return None
    return list(inputs.values()), list(outputs.values())


def _attempt(name: str, path: Path, golden: Golden, smallest: float) -> Verdict:
    facts = {"network": name, "file": path.name, "mode": MODE}
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "written.py"
        try:
            write_scaffold(str(path), str(written))
            module = _built(written)
            port(path, module)
        except AmbiguousPortError as error:
            return Verdict(**facts, outcome=AMBIGUOUS, detail=str(error))
        except FrostlineError as error:
            return Verdict(**facts, outcome=REFUSED, detail=f"{error.received or error}")
        except Exception as error:  # a crash is a result, too
            return Verdict(**facts, outcome=CRASHED, detail=f"{type(error).__name__}: {error}")
        found = _error(module, golden, smallest)
    return Verdict(**facts, outcome=EXACT if found <= LIMIT else WRONG, error=found)


def _built(path: Path) -> nn.Module:
    spec = importlib.util.spec_from_file_location("written", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, CLASS)().eval()


def _error(module: nn.Module, golden: Golden, smallest: float) -> float:
    """The largest difference of the outputs, in shares of their largest value; infinity where shapes differ.

    Args:
        module: The written module, filled.
        golden: Inputs and outputs.
        smallest: What the largest value counts as at least.
    """
    with torch.no_grad():
        found = module(*golden[0])
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(golden[1]):
        return float("inf")
    return max(
        float((one - other).abs().max() / max(float(other.abs().max()), smallest))
        if one.shape == other.shape
        else float("inf")
        for one, other in zip(found, golden[1], strict=True)
    )
