"""The smallest program that still shows what a program shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .programs import Program


def shrink(program: Program, holds: Callable[[Program], bool]) -> Program:
    """Drop statements, and simplify inputs and output, while `holds`."""
    at = len(program.steps) - 1
    while at >= 0:
        smaller = program.without(at)
        if holds(smaller):
            program = smaller
        at = min(at - 1, len(program.steps) - 1)
    for change in (
        {"inputs": "tensor"},
        {"output": "tensor"},
        {"optimizer": "sgd"},
        {"layout": "r"},
        {"later": "scaled"},
    ):
        simpler = replace(program, **change)
        if simpler != program and holds(simpler):
            program = simpler
    return program
