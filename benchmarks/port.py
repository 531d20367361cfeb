"""Porting 100 MB of weights: time against reading the file and copying its bytes, peak memory against the file.

Each format is measured in a process of its own: first the memory of one `fl.port` into a module that is there, then the
times, in turns with the plain copy. Before each of them the process gives its free memory back to the system: the port
and the copy both touch memory for the first time. A copy into memory that the process used before takes a third of the
time, and what a process has used before is chance.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from common import ROOT, seconds
from port_files import WRITERS, Network, arrays

import frostline as fl
from frostline.porting.readers.folders import weight_path
from frostline.porting.readers.formats import READERS
from frostline.porting.readers.weight_file import WeightFile

ROUNDS = 9


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Ratios by format."""
    del device
    figures: dict[str, Any] = {"threads": torch.get_num_threads()}
    values = arrays()
    for name, write in list(WRITERS.items())[: 2 if is_quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder), values)
            found = subprocess.run([sys.executable, __file__, str(path)], check=True, capture_output=True, text=True)
        for figure, value in json.loads(found.stdout).items():
            figures[f"{name}: {figure}"] = value
    return figures


def measure(path: Path) -> dict[str, float]:
    """The figures of one file."""
    model = Network()
    small = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Linear(2, 2))
    fl.port(ROOT / "tests" / "porting" / "files" / "torch" / "state.pt", small)  # imports what a port needs
    files = [path] if path.is_file() and path.suffix != ".index" else sorted(one for one in path.parent.rglob("*"))
    files = [one for one in (files if path.is_file() else path.rglob("*")) if one.is_file()]
    size = sum(one.stat().st_size for one in files)
    before = _reset_peak()
    fl.port(path, model)
    peak = _status("VmHWM") - before
    rounds = [
        (_times(lambda: _copy(files)), _times(lambda: _load(path)), _times(lambda: fl.port(path, model)))
        for _ in range(ROUNDS)
    ]
    copies, loads, ports = zip(*rounds, strict=True)
    return {
        "file, MB": size / 1e6,
        "read + copy, s": statistics.median(wall for wall, _ in copies),
        "reader / (read + copy)": statistics.median(_ratios(loads, copies, 0)),
        **_spread("port / (read + copy)", _ratios(ports, copies, 0)),
        **_spread("port / (read + copy), processor time", _ratios(ports, copies, 1)),
        "port, s": statistics.median(wall for wall, _ in ports),
        "port, peak memory / file": peak / size,
    }


def _times(run: Callable[[], object]) -> tuple[float, float]:
    """Wall time, and processor time of all threads."""
    _trim()
    started = time.process_time()
    wall = seconds(run)
    return wall, time.process_time() - started


def _ratios(ours: Sequence[tuple[float, float]], copies: Sequence[tuple[float, float]], which: int) -> list[float]:
    return [one[which] / other[which] for one, other in zip(ours, copies, strict=True)]


def _spread(name: str, ratios: list[float]) -> dict[str, float]:
    """The median of rounds, and the quartiles as their spread."""
    low, median, high = statistics.quantiles(ratios, n=4)
    return {name: median, f"{name}, lower quartile": low, f"{name}, upper quartile": high}


def _copy(files: list[Path]) -> None:
    """Read files, and copy their bytes into memory that was never touched."""
    for path in files:
        count = path.stat().st_size
        with path.open("rb") as file, _untouched(count) as read, _untouched(count) as copied:
            file.readinto(read)
            with memoryview(read) as view:
                copied[:] = view


def _untouched(count: int) -> mmap.mmap:
    return mmap.mmap(-1, max(1, count), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _load(path: Path) -> list[torch.Tensor]:
    with WeightFile(weight_path(path)) as file:
        reader = next(reader for reader in READERS if reader.claims(file))
        return [tensor.load() for tensor in reader.read(file).tensors]


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _reset_peak() -> int:
    """Let the peak start from what the process holds now, which is returned."""
    _trim()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _trim() -> None:
    """Give free memory back to the system."""
    ctypes.CDLL(None).malloc_trim(0)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]))))
