"""The test models of the `onnx` package, which hold one operator or a small network each, with stored outputs.

Nobody here wrote them: a module is written for each, filled where the model holds weights, and its outputs are compared
with the stored ones. Run `python -m exams.porting.onnx_tests`; the counts go to `docs/exam-onnx-tests.md`.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from frostline.core.errors import PortError
from frostline.porting.readers import onnx
from frostline.porting.readers.weight_file import WeightFile
from frostline.porting.scaffold.module_text import module_text
from frostline.recipes.port import port
from frostline.recipes.port_files import CLASS, write_scaffold

from .scaffolds import _built

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXACT, REFUSED, WRONG, CRASHED = "exact", "refused", "wrong", "crashed"
REPORT = Path("docs/exam-onnx-tests.md")
FOLDERS = ("simple", "pytorch-converted", "pytorch-operator")
NODES, CONSTANTS = "node", "node, inputs but the first as constants"
_LIMIT_S = 60
_RTOL, _ATOL = 1e-3, 1e-5  # where a case of the package states none

_HEAD = """# Test models of the onnx package

Written by `python -m exams.porting.onnx_tests` (a part of `make exam-porting`), with onnx 1.23.2. Nobody here made
these models: most hold one operator, with inputs and outputs. A module is written for each (`--scaffold`), filled by
the port where the model holds weights, and run on the stored inputs; *exact* is within the package's own tolerance.
Models of sequences, maps and optional values are left out. The last row holds the same operators with all inputs but
the first as tensors of the file, as networks have them.
"""
_OF_HALVES = {"float16": (5e-3, 5e-3), "bfloat16": (4e-2, 4e-2)}  # the module computes in float32


@dataclass(frozen=True)
class Case:
    """A model and what it makes of inputs.

    Attributes:
        name: Of the case.
        group: Of the folder in the package.
        model: As bytes.
        sets: Inputs and outputs.
        rtol: Relative difference that is allowed.
        atol: Absolute difference that is allowed.
    """

    name: str
    group: str
    model: bytes
    sets: tuple[tuple[list[Any], list[Any]], ...]
    rtol: float = _RTOL
    atol: float = _ATOL


@dataclass(frozen=True)
class Result:
    """What became of one case."""

    case: str
    group: str
    outcome: str
    detail: str = ""


def cases(groups: Iterable[str] = (*FOLDERS, NODES)) -> Iterator[Case]:
    """The cases that hold tensors only, in the order of their names."""
    for group in groups:
        yield from _generated() if group == NODES else _stored(group)


def _stored(group: str) -> Iterator[Case]:
    from onnx import TensorProto, backend, numpy_helper

    folder = Path(backend.__file__).parent / "test" / "data" / group
    for path in sorted(folder.glob("*/model.onnx")):
        sets: list[tuple[list[Any], list[Any]]] = []
        for data in sorted(path.parent.glob("test_data_set_*")):
            both: tuple[list[Any], list[Any]] = ([], [])
            for kind, values in zip(("input", "output"), both, strict=True):
                files = sorted(data.glob(f"{kind}_*.pb"), key=lambda one: int(re.sub(r"\D", "", one.stem)))
                values += [numpy_helper.to_array(TensorProto.FromString(one.read_bytes())) for one in files]
            sets.append(both)
        yield Case(path.parent.name, group, path.read_bytes(), tuple(sets))


def _generated() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = sorted(collect_testcases(None), key=lambda one: one.name)
    for one in found:
        sets = tuple((list(inputs), list(outputs)) for inputs, outputs in one.data_sets or ())
        if all(isinstance(value, np.ndarray) for pair in sets for values in pair for value in values):
            yield Case(one.name, NODES, one.model.SerializeToString(), sets, one.rtol, one.atol)
            if len(sets) == 1 and len(sets[0][0]) > 1:
                yield _with_constants(one.name, one.model, *sets[0], one.rtol, one.atol)


def _with_constants(name: str, model: Any, inputs: list[Any], outputs: list[Any], rtol: float, atol: float) -> Case:
    """The same with all inputs but the first as tensors of the file, as networks have their weights and settings."""
    from onnx import ModelProto, numpy_helper

    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for given, value in zip(graph.input[1:], inputs[1:], strict=False):
        graph.initializer.append(numpy_helper.from_array(value, given.name))
    del graph.input[1:]
    return Case(name, CONSTANTS, changed.SerializeToString(), ((inputs[:1], outputs),), rtol, atol)


def attempt(case: Case) -> Result:
    """Write a module for a case, fill it, and run it."""
    with tempfile.TemporaryDirectory() as folder:
        path, written = Path(folder) / "model.onnx", Path(folder) / "written.py"
        path.write_bytes(case.model)
        try:
            _write(path, written)
        except PortError as error:
            return Result(case.name, case.group, REFUSED, str(error.received or error.what))
        except Exception as error:
            return Result(case.name, case.group, CRASHED, f"{type(error).__name__}: {error}")
        try:
            module = _built(written)
            if _has_weights(path):
                port(path, module)
            worst = max((_difference(module, case, *one) for one in case.sets), default=0.0)
        except PortError as error:
            return Result(case.name, case.group, REFUSED, f"by the port: {error.what} {error.received}")
        except Exception as error:
            return Result(case.name, case.group, WRONG, f"{type(error).__name__}: {error}\n{written.read_text()}")
        text = written.read_text() if worst > 1 else ""
    return Result(case.name, case.group, EXACT if worst <= 1 else WRONG, text and f"{worst:.1e}\n{text}")


def _write(path: Path, written: Path) -> None:
    """Write the module; of models without weights, which the door to files refuses, by the parts behind it."""
    if _has_weights(path):
        write_scaffold(str(path), str(written))
    else:
        with WeightFile(path) as file:
            written.write_text(module_text(onnx.read(file), str(path), CLASS))


def _has_weights(path: Path) -> bool:
    with WeightFile(path) as file:
        return bool(onnx.read(file).tensors)


def _difference(module: torch.nn.Module, case: Case, inputs: list[Any], outputs: list[Any]) -> float:
    """The largest difference, in shares of what is allowed; infinity for other shapes."""
    if any(np.array(one).dtype == np.float64 for one in inputs):
        module = module.double()
    with torch.no_grad():
        found = module(*map(_tensor, inputs))
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(outputs):
        return float("inf")
    return max(
        (_apart(one.detach().double().numpy(), other, case) for one, other in zip(found, outputs, strict=True)),
        default=0,
    )


def _tensor(value: Any) -> torch.Tensor:
    """A value as the written module takes it: it does not compute in halves."""
    given = np.array(value)
    is_float = (given.dtype.kind == "f" and given.itemsize < 8) or given.dtype.name == "bfloat16"
    return torch.from_numpy(given.astype(np.float32) if is_float else given)


def _apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], case: Case) -> float:
    if one.shape != other.shape:
        return float("inf")
    rtol, atol = _OF_HALVES.get(other.dtype.name, (case.rtol, case.atol))
    one, other = one.astype(np.float64), other.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(all="ignore"):
        share = np.abs(one - other) / (atol + rtol * np.abs(other))
    share = np.where(same, 0.0, np.where(np.isnan(share), np.inf, share))
    return float(share.max()) if share.size else 0.0


def report(results: list[Result]) -> str:
    """The counts by group, what went wrong, and which operators were refused."""
    counts = Counter((one.group, one.outcome) for one in results)
    lines = [_HEAD, "| models | exact | refused | wrong | crashed |", "|---|---|---|---|---|"]
    for group in dict.fromkeys(one.group for one in results):
        numbers = (str(counts[(group, outcome)]) for outcome in (EXACT, REFUSED, WRONG, CRASHED))
        lines.append(f"| `{group}` | {' | '.join(numbers)} |")
    wrong = [f"* `{one.case}`: {one.detail.splitlines()[0]}" for one in results if one.outcome in (WRONG, CRASHED)]
    lines += ["", "## Wrong", "", *(wrong or ["None."])]
    found = Counter(kind for one in results if one.outcome == REFUSED and (kind := _operator(one.detail)))
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(found.items()))
    return "\n".join([*lines, "", "## Refused, by operator", "", f"{len(found)} operators: {told}.", ""])


def _operator(detail: str) -> str:
    """The operator that is refused altogether; empty if only a setting of it is."""
    found = re.fullmatch(r"the node '.*' \(([\w.]+)\)", detail)
    return found[1] if found else ""


def _late(*_: object) -> None:
    raise TimeoutError("not done in time")


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(prog="python -m exams.porting.onnx_tests", description=__doc__)
    parser.add_argument("--group", nargs="+", default=[*FOLDERS, NODES], choices=[*FOLDERS, NODES])
    parser.add_argument("--only", help="cases whose names contain this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    results: list[Result] = []
    for case in cases(options.group):
        if options.only and options.only not in case.name:
            continue
        signal.alarm(_LIMIT_S)
        results.append(attempt(case))
        signal.alarm(0)
        if results[-1].outcome in (WRONG, CRASHED, REFUSED):
            sys.stdout.write(f"{results[-1].outcome} {case.group}/{case.name}: {results[-1].detail}\n")
    if not options.only and set(options.group) == {*FOLDERS, NODES}:
        REPORT.write_text(report(results))
    sys.stdout.write(report(results) + "\n")


if __name__ == "__main__":
    main()
