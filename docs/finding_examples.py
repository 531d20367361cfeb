"""Runs the example of every finding: docs/examples/findings/fl101.py and its neighbours, each beside `setting.py`."""

from __future__ import annotations

import ast
import runpy
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from frostline import Diagnosis
from frostline.diagnosis import all_of

FOLDER = Path(__file__).parent / "examples" / "findings"


@dataclass(frozen=True)
class FindingExample:
    """One example, and what its run gave.

    Attributes:
        about: The situation, in a sentence.
        code: The script without its docstring and imports.
        diagnosis: Of the network with the fault.
        fixed: Of the network without it.
    """

    about: str
    code: str
    diagnosis: Diagnosis
    fixed: Diagnosis

    @property
    def printed(self) -> str:
        """The findings as they are printed."""
        return "\n".join(map(str, self.diagnosis.findings))

    def after(self, code: str) -> tuple[str, str]:
        """Outcome and reason of the rule of this code for the fixed network."""
        (finding,) = [finding for finding in all_of(self.fixed) if finding.code == code]
        return finding.outcome, finding.why


def run_example(code: str) -> FindingExample:
    """Run the script of a finding code, on one thread and without the global generator's past."""
    path = FOLDER / f"{code.lower()}.py"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(FOLDER))
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(0)
            names = runpy.run_path(str(path))
    finally:
        sys.path.remove(str(FOLDER))
        torch.set_num_threads(threads)
    return FindingExample(*_parts(path), names["diagnosis"], names["fixed"])


def _parts(path: Path) -> tuple[str, str]:
    """(docstring, code without it and without the imports)."""
    text = path.read_text()
    tree = ast.parse(text)
    first = next(node for node in tree.body[1:] if not isinstance(node, (ast.Import, ast.ImportFrom)))
    return ast.get_docstring(tree) or "", "\n".join(text.splitlines()[first.lineno - 1 :]).strip()
