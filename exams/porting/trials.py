"""One port of the exam, and what became of it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

import frostline as fl

from .renaming import rename
from .stored import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from frostline.porting.certificate import Certificate, Check

    from .stored import Stored

EXACT, REFUSED, AMBIGUOUS, CRASHED = "exact", "refused", "ambiguous", "crashed"
TOLD, WRONG = "differs, and says so", "silently wrong"
OUTCOMES = (EXACT, AMBIGUOUS, REFUSED, TOLD, CRASHED, WRONG)


@dataclass(frozen=True)
class Verdict:
    """What became of one port.

    Attributes:
        network: Framework and name.
        file: Which of its files.
        mode: How it was ported.
        outcome: One of `OUTCOMES`.
        detail: The error, or nothing.
        error: Of the outputs, in shares of the largest; -1 if there are none.
        elapsed_s: How long the port took.
        as_expected: Whether the module cannot represent the network, or names and files do not tell the layers apart,
            and the port said so.
        commit: The version of the library.
    """

    network: str
    file: str
    mode: str
    outcome: str
    detail: str = ""
    error: float = -1.0
    elapsed_s: float = 0.0
    as_expected: bool = False
    commit: str = ""


def attempt(
    network: Stored,
    file: str,
    mode: str,
    *,
    path: Path | None = None,
    has_golden: bool = False,
    change: Callable[[nn.Module], object] = lambda module: None,
    finish: Callable[[nn.Module, Certificate], str] = lambda module, certificate: "",
    **options: object,
) -> Verdict:
    """Port one file into its counterpart, and compare the outputs.

    Args:
        network: The network.
        file: Its file.
        mode: For the record.
        path: Another file than the stored one.
        has_golden: Whether the port is given the golden outputs.
        change: Done to the counterpart beforehand.
        finish: Done to it afterwards, before its outputs are compared; gives why they may differ, if that was said.
        options: For `frostline.port`.
    """
    torch.manual_seed(0)
    module = network.counterpart.build().eval()
    change(module)
    golden = (tuple(network.golden("input")), network.golden("output")) if has_golden else None
    facts = {"network": f"{network.framework}/{network.name}", "file": file, "mode": mode}
    started = time.perf_counter()
    try:
        certificate = fl.port(path or network.path / file, module, golden=golden, **options)
    except fl.AmbiguousPortError as error:
        expected = bool(network.facts.get("needs_golden")) and not has_golden
        elapsed = time.perf_counter() - started
        return Verdict(**facts, outcome=AMBIGUOUS, detail=str(error), elapsed_s=elapsed, as_expected=expected)
    except fl.FrostlineError as error:
        elapsed = time.perf_counter() - started
        expected = bool(network.counterpart.refused)
        return Verdict(**facts, outcome=REFUSED, detail=str(error), elapsed_s=elapsed, as_expected=expected)
    except Exception as error:  # a crash is a result, too
        return Verdict(**facts, outcome=CRASHED, detail=f"{type(error).__name__}: {error}")
    elapsed = time.perf_counter() - started
    left = finish(module, certificate)
    found = network.error(module)
    told = next((check.text for check in certificate.checks if check.status == "differs" and _is_seen(check)), left)
    outcome = EXACT if found <= LIMIT else TOLD if told else WRONG
    return Verdict(**facts, outcome=outcome, detail=told, error=found, elapsed_s=elapsed)


# Settings that differ in training only: they explain no difference of outputs.
_OF_TRAINING = ("momentum", "variance in training", "dropout")


def _is_seen(check: Check) -> bool:
    return check.setting not in _OF_TRAINING


def renamed(network: Stored, file: str, seed: int) -> Verdict:
    """Port into the counterpart under random names."""
    return attempt(network, file, "renamed", change=lambda module: rename(module, random.Random(seed)))
