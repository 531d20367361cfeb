"""Changed graphs against `--scaffold`: a module that is imported, or a `PortError`, soon; nothing of a file is run.

    python -m exams.fuzz.scaffolds --cases 20000 [--first 0] [--store docs/fuzz-scaffolds.json]
    python -m exams.fuzz.scaffolds --show 17

Each case takes a network that a real framework wrote, changes settings, names, shapes or the order of its graph, and
has a module written for it. Cases are numbered: a number makes the same file again. A law is broken by another error
than `PortError`, by more than five seconds of the processor, 2 GiB of memory, a dead process, anything that runs or is
opened while the module is written, text of the file that became code, or a module that cannot be imported. Modules
are built and run, too: networks that were changed may be none any more, so that an error of PyTorch is counted only.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.util
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import PortError
from frostline.porting.readers import keras3, onnx
from frostline.porting.readers.weight_file import WeightFile
from frostline.porting.scaffold.module_text import module_text

from .changed_graphs import FIXTURES, changed
from .readers import watched

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE = Path(__file__).parents[2] / "docs" / "fuzz-scaffolds.json"
MAX_SECONDS = 5.0  # of the processor, for one case
_ALARM_S = 30
_MEMORY_BYTES = 2 << 30  # on top of what a worker has when it starts
_BATCH = 4_000  # a new process takes as long as a hundred
_SAMPLES = 2  # of an open axis
_MAX_VALUES = 1 << 16  # in the inputs of a run
RUNS, RAISES, REFUSED, BROKEN = "runs", "written, and is no network", "refused", "broken"
_NAMES = frozenset(("self", "super", "torch", "nn", "F", "Tensor", "blocks", "math", "tuple", "int", "float", "bool",
                    "enumerate", "max", "min", "abs", "size", "axis"))  # fmt: skip
_IMPORTS = frozenset(("import math", "import torch", "import torch.nn.functional as F", "from torch import Tensor, nn",
                      "from frostline.porting import blocks"))  # fmt: skip
_PLAIN = re.compile(r"[\w ,.>\-]*")


class BrokenLawError(AssertionError):
    """A case that ended otherwise than with a module or a `PortError`."""


def examine(fixture: str, content: bytes, folder: Path) -> str:
    """What became of a changed file.

    Raises:
        BrokenLawError: With what broke the law.
    """
    path = folder / f"case{Path(fixture).suffix}"
    path.write_bytes(content)
    text = _written(path)
    if text is None:
        return REFUSED
    shapes = check_text(text)
    try:
        network = _imported(text, folder / "written.py")
    except Exception as error:
        raise BrokenLawError(f"it cannot be imported: {error!r}") from error
    try:
        module = network().eval()
        with torch.no_grad():
            module(*shapes)
    except MemoryError as error:
        raise BrokenLawError("its module takes more memory than there is") from error
    except Exception as error:
        if "not enough memory" in str(error):
            raise BrokenLawError(f"its module takes more memory than there is: {error}") from error
        return RAISES
    return RUNS


def _imported(text: str, path: Path) -> type[torch.nn.Module]:
    """The class of a text that was checked before: it holds nothing but calls of PyTorch and our blocks."""
    path.write_text(text)
    found = importlib.util.spec_from_loader("written", importlib.machinery.SourceFileLoader("written", str(path)))
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.Network


def _written(path: Path) -> str | None:
    """The text of a module; None if it is refused."""
    start = time.process_time()
    with watched(path.parent) as seen:
        try:
            with WeightFile(path) as file:
                source = (onnx if path.suffix == ".onnx" else keras3).read(file)
                text = module_text(source, str(path))
        except PortError as error:
            text, told = None, str(error)
            if not error.do or len(told) > 5_000:
                raise BrokenLawError(f"an error without a remedy, or without end: {told[:200]}") from error
        except Exception as error:
            raise BrokenLawError(traceback.format_exc()[-1500:]) from error
    if seen:
        raise BrokenLawError(f"it did {seen[0]}")
    if (elapsed := time.process_time() - start) > MAX_SECONDS:
        raise BrokenLawError(f"it took {elapsed:.1f} s")
    return text


def check_text(text: str) -> list[torch.Tensor]:
    """That a text is a module and nothing else; inputs for it.

    Raises:
        BrokenLawError: If any of it may come from a file and be code.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BrokenLawError(f"no Python: {error}") from error
    head, *rest = tree.body
    classes = [one for one in rest if isinstance(one, ast.ClassDef)]
    imports = [ast.unparse(one) for one in rest if isinstance(one, (ast.Import, ast.ImportFrom))]
    if len(classes) != 1 or len(classes) + len(imports) != len(rest) or not set(imports) <= _IMPORTS:
        raise BrokenLawError(f"more than one class: {[ast.unparse(one)[:80] for one in rest][:8]}")
    told, *functions = classes[0].body
    if [getattr(one, "name", "") for one in functions] != ["__init__", "forward"]:
        raise BrokenLawError("other than two functions")
    forward = functions[1]
    stored = (one for one in ast.walk(forward) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
    known = _NAMES | {one.arg for one in forward.args.args} | {one.id for one in stored}
    for function in functions:
        for node in ast.walk(function):
            _check_node(node, known)
    return _inputs(ast.get_docstring(classes[0]) or "", len(forward.args.args) - 1) if head and told else []


def _check_node(node: ast.AST, known: frozenset[str] | set[str]) -> None:
    if isinstance(node, ast.Name) and node.id not in known:
        raise BrokenLawError(f"the name {node.id!r}")
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _PLAIN.fullmatch(node.value):
        raise BrokenLawError(f"the text {node.value!r}")
    if isinstance(node, ast.Attribute) and node.attr.startswith("__") and node.attr != "__init__":
        raise BrokenLawError(f"the attribute {node.attr!r}")
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.Lambda, ast.Global, ast.Delete, ast.With, ast.Raise)):
        raise BrokenLawError(f"the statement {ast.unparse(node)[:80]!r}")


def _inputs(docstring: str, count: int) -> list[torch.Tensor]:
    """Inputs of the shapes that the docstring of the class states: whole numbers where it says so."""
    parts = docstring.removeprefix("Takes ").removesuffix(".").split("; ")
    made: list[torch.Tensor] = []
    for part in parts[:count]:
        found = re.search(r"\(([^()]*)\)", part)
        sizes = [one.strip() for one in found[1].split(",") if one.strip()] if found else ["open", "open"]
        shape = [min(int(one), 1 << 40) if one.isdigit() else _SAMPLES for one in sizes]
        total = 1
        for size in shape:
            total *= size
        shape = shape if total <= _MAX_VALUES else [_SAMPLES] * min(len(shape), 8)
        is_whole = "whole numbers" in part or (len(shape) == 2 and "ids" in part)
        made.append(torch.ones(shape, dtype=torch.long) if is_whole else torch.ones(shape))
    return made


def verdicts(first: int, count: int) -> Iterator[tuple[int, str]]:
    """Cases by number, and what became of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for number in range(first, first + count):
            fixture, content = changed(number)
            if number == first:  # imports everything that the cases will need
                for one in FIXTURES:
                    warm = folder / f"warm{Path(one).suffix}"
                    warm.write_bytes(FIXTURES[one])
                    try:
                        with WeightFile(warm) as file:
                            module_text((onnx if warm.suffix == ".onnx" else keras3).read(file), str(warm))
                    except PortError:
                        continue
            try:
                yield number, examine(fixture, content, folder)
            except BrokenLawError as error:
                yield number, f"{BROKEN}: {error}"


def _work(first: int, count: int) -> None:
    """One worker: a verdict for each line."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    has = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (has + _MEMORY_BYTES, has + _MEMORY_BYTES))
    for number, verdict in verdicts(first, count):
        sys.stdout.write(json.dumps([number, verdict]) + "\n")
        sys.stdout.flush()
        signal.alarm(_ALARM_S)  # ends the process at a case that does not end


def run(first: int, count: int) -> Iterator[tuple[int, str]]:
    """Cases in processes of their own: one that dies is a broken law, and the next process goes on behind it."""
    at, end = first, first + count
    while at < end:
        batch = min(_BATCH, end - at)
        worker = [sys.executable, "-m", "exams.fuzz.scaffolds", "--work", str(at), str(batch)]
        done = subprocess.run(worker, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            number, verdict = json.loads(line)
            at = number + 1
            yield number, verdict
        if done.returncode:
            yield at, f"{BROKEN}: the process ended with {done.returncode}: {done.stderr[-500:]}"
            at += 1


def main() -> int:
    """Parse the options and run; 1 if a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m exams.fuzz.scaffolds", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="how many")
    parser.add_argument("--first", type=int, help="the first number; else behind the last one in the store")
    parser.add_argument("--store", type=Path, default=STORE, help="where counts add up")
    parser.add_argument("--show", type=int, help="print the module of a case and what becomes of it, and stop")
    parser.add_argument("--work", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        _work(*options.work)
        return 0
    if options.show is not None:
        return _show(options.show)
    counts: Counter[str] = Counter(json.loads(options.store.read_text()) if options.store.is_file() else {})
    first = options.first if options.first is not None else counts.total()
    broken = 0
    for number, verdict in run(first, options.cases):
        counts[verdict.partition(":")[0]] += 1
        if verdict.startswith(BROKEN):
            broken += 1
            sys.stdout.write(f"{number} {verdict}\n")
            sys.stdout.flush()
    options.store.write_text(json.dumps(counts, indent=1) + "\n")
    sys.stdout.write(json.dumps(counts) + "\n")
    return int(bool(broken))


def _show(number: int) -> int:
    fixture, content = changed(number)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name).resolve() / f"case{Path(fixture).suffix}"
        path.write_bytes(content)
        try:
            sys.stdout.write(f"{fixture}\n{_written(path)}\n")
            sys.stdout.write(f"{examine(fixture, content, Path(name).resolve())}\n")
        except BrokenLawError as error:
            sys.stdout.write(f"{BROKEN}: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
