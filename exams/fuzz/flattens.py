"""Ports of networks that flatten: each is exact, or refused; never silently wrong.

    python -m exams.fuzz.flattens --cases 2000 [--first 0]
    python -m exams.fuzz.flattens --show 17

Each network is saved as Flax saves it, and as PyTorch does, whose files need no turning. Where a port is ambiguous it
is given golden outputs, which have to settle it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from frostline.core.errors import AmbiguousPortError, PortError
from frostline.recipes.port import port

from .flattened_modules import Module
from .flattened_programs import LENGTH, WORDS, Program, draw
from .flattened_sources import outputs_of, weights_of

_NEXT = 2_000_003  # to the seed that takes the place of one whose network computes no numbers
LIMIT = 1e-4  # of the largest output; a wrong order is off by a tenth and more
EXACT, GOLDEN, AMBIGUOUS, REFUSED, WRONG = "exact", "exact with golden outputs", "ambiguous", "refused", "wrong"


@dataclass(frozen=True)
class Verdict:
    """What became of one network: one of the outcomes, and the error or how far it is off."""

    outcome: str
    detail: str = ""


def inputs_of(program: Program, seed: int) -> np.ndarray:
    """Inputs of the source network."""
    chance = np.random.default_rng(seed)
    if program.begins == "words":
        return chance.integers(0, WORDS, (4, LENGTH))
    return chance.standard_normal((4, *program.shapes[0])).astype("float32")


def drawn(seed: int) -> Program:
    """The network of a seed, of those whose outputs are numbers: what was divided by its own length may be all zero."""
    again = seed
    while True:
        program = draw(again)
        with np.errstate(invalid="ignore"):
            outputs = outputs_of(program, weights_of(program, seed), inputs_of(program, seed))
        if np.isfinite(outputs).all() and outputs.any():
            return program
        again += _NEXT


def examine(seed: int, folder: Path) -> Verdict:
    """The network of a seed from Flax's file."""
    program = drawn(seed)
    weights = weights_of(program, seed)
    path = folder / "source.npz"
    np.savez(path, **{f"{unit}/{leaf}" if leaf != unit else unit: value
                      for unit, leaves in weights.items() for leaf, value in _named(unit, leaves).items()})  # fmt: skip
    inputs = inputs_of(program, seed)
    wanted = torch.from_numpy(outputs_of(program, weights, inputs)).float()
    given = torch.from_numpy(inputs if inputs.ndim == 2 else np.moveaxis(inputs, -1, 1).copy())
    module = Module(program).eval()
    try:
        port(path, module)
    except AmbiguousPortError as error:
        return _settled(path, Module(program).eval(), given, wanted, str(error))
    except PortError as error:
        return Verdict(REFUSED, str(error))
    off = _off(module, given, wanted)
    return Verdict(EXACT) if off < LIMIT else Verdict(WRONG, f"{off:.2e}")


def _named(unit: str, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A parameter of its own is named by its unit alone."""
    return {unit: leaves["gain"]} if set(leaves) == {"gain"} else leaves


def _settled(path: Path, module: Module, given: torch.Tensor, wanted: torch.Tensor, text: str) -> Verdict:
    try:
        port(path, module, golden=(given, wanted))
    except AmbiguousPortError as error:
        return Verdict(AMBIGUOUS, str(error))
    except PortError as error:
        return Verdict(REFUSED, f"{text}\nwith golden outputs: {error}")
    off = _off(module, given, wanted)
    return Verdict(GOLDEN, text) if off < LIMIT else Verdict(WRONG, f"{off:.2e} with golden outputs")


def _off(module: Module, given: torch.Tensor, wanted: torch.Tensor) -> float:
    with torch.no_grad():
        return float((module(given) - wanted).abs().max() / wanted.abs().max())


def examine_torch(seed: int, folder: Path) -> Verdict:
    """The network of a seed from a file of PyTorch, under another beginning of its names: nothing is turned."""
    program = drawn(seed)
    torch.manual_seed(seed)
    source, module = Module(program).eval(), Module(program).eval()
    path = folder / "source.pt"
    torch.save({f"net.{name}": value for name, value in source.state_dict().items()}, path)
    inputs = inputs_of(program, seed)
    given = torch.from_numpy(inputs if inputs.ndim == 2 else np.moveaxis(inputs, -1, 1).copy())
    try:
        port(path, module)
    except PortError as error:
        return Verdict(AMBIGUOUS if isinstance(error, AmbiguousPortError) else REFUSED, str(error))
    with torch.no_grad():
        off = _off(module, given, source(given))
    return Verdict(EXACT) if off < LIMIT else Verdict(WRONG, f"{off:.2e}")


def run(first: int, cases: int) -> tuple[Counter[str], list[str]]:
    """How often each outcome came, and the seeds that were wrong or that golden outputs did not settle."""
    counts: Counter[str] = Counter()
    shown: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + cases):
            for kind, check in (("flax", examine), ("torch", examine_torch)):
                verdict = check(seed, Path(folder))
                counts[f"{kind}: {verdict.outcome}"] += 1
                if verdict.outcome not in (EXACT, GOLDEN):
                    shown.append(f"{seed} {kind} {verdict.outcome}: {verdict.detail}")
    return counts, shown


def main() -> int:
    """Parse the options and run; 1 if a port was wrong."""
    parser = argparse.ArgumentParser(prog="python -m exams.fuzz.flattens", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="how many networks")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--show", type=int, help="print one network and what becomes of it, and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.show is not None:
        program = drawn(options.show)
        nodes = zip(program.nodes, program.shapes[1:], strict=True)
        lines = [f"{index}: {node.kind} {node.inputs} {node.settings} {shape}"
                 for index, (node, shape) in enumerate(nodes, 1)]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            verdict = examine(options.show, Path(folder))
        sys.stdout.write("\n".join([program.begins, *lines, str(verdict), ""]))
        return 0
    counts, shown = run(options.first, options.cases)
    sys.stdout.write("\n".join([*shown, *(f"{count:7,} {name}" for name, count in sorted(counts.items())), ""]))
    return int(any(name.endswith(WRONG) for name in counts))


if __name__ == "__main__":
    sys.exit(main())
