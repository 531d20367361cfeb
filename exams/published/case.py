"""What a published bug is, and what most of them are made of: small tables, batches, perceptrons."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from sklearn import datasets
from torch import Tensor, nn

Batch = tuple[Any, Any]


@dataclass
class Training:
    """A training that is ready to start.

    Attributes:
        model: With its initial weights, in the mode in which it trains.
        batches: All epochs, in order.
        loss_fn: callable(output, target) -> scalar.
        optimizer: As the published program makes it.
        loop: The program's own loop, where the bug is in it: callable(training, monitor) that reports each step.
        measure: callable(outputs, targets) -> how good they are, 0 to 1; None measures right answers, or explained
            variance.
    """

    model: nn.Module
    batches: list[Batch]
    loss_fn: Callable[[Any, Any], Tensor]
    optimizer: torch.optim.Optimizer
    loop: Callable[[Training, Any], None] | None = None
    measure: Callable[[Tensor, Tensor], float] | None = None


@dataclass(frozen=True)
class Published:
    """One bug.

    Attributes:
        name: Short and unique.
        source: Where it was published.
        mechanism: Why the network does not learn, in a sentence.
        right: Families and codes that name the cause.
        words: One of these is in advice that leads to the fix.
        build: callable(is_sick) -> training; False gives the fixed twin.
        part: `open`, or `set aside`: those are asked once, and no rule is changed by their answers; `later`: the same,
            of bugs that were collected once the others had shaped the rules; `drawn`: of a search, by a rule;
            `second draw`: of what a person's questions find, by a rule; `third draw`: of one question for each kind of
            training, and of mechanisms that no other case has; `fourth draw`: of symptoms as people type them, by a
            rule.
        treatment: What of the model or the optimizer can be changed in place against it; "" where the bug is a line of
            the loop, the loss, the data or the code of the model, which no treatment changes.
        line: What the published fix changes; written down before the case was asked.
        counts: What a fair judge takes for the right cause, in words; written down before codes were looked up.
    """

    name: str
    source: str
    mechanism: str
    right: frozenset[str]
    words: tuple[str, ...]
    build: Callable[[bool], Training]
    part: str = "open"
    treatment: str = ""
    line: str = ""
    counts: str = ""


CASES: dict[str, Published] = {}


def published(
    source: str,
    *,
    right: set[str],
    words: tuple[str, ...],
    is_drawn: bool = False,
    treatment: str = "",
    line: str = "",
    part: str = "",
    counts: str = "",
) -> Callable[[Callable[[bool], Training]], Callable[[bool], Training]]:
    """Enter a bug under the name of the function that builds it; its docstring is the mechanism.

    Args:
        source: Where it was published.
        right: Families and codes that name the cause.
        words: One of these is in advice that leads to the fix.
        is_drawn: True draws whether the case is set aside, by a digest of its name: about every second one is.
        treatment: What can be changed in place against it, or "".
        line: What the published fix changes, of bugs that were collected later: all of them are set aside.
        part: The part that the case belongs to, where the two above do not say it.
        counts: What a fair judge takes for the right cause, in words.
    """

    def enter(build: Callable[[bool], Training]) -> Callable[[bool], Training]:
        name = build.__name__
        own = "set aside" if is_drawn and hashlib.sha256(name.encode()).digest()[0] % 2 else "open"
        own, mechanism = part or ("later" if line else own), build.__doc__ or ""
        CASES[name] = Published(name, source, mechanism, frozenset(right), words, build, own, treatment, line, counts)
        return build

    return enter


def epochs_of(inputs: Tensor, target: Tensor, size: int, epochs: int, *, shuffle: bool = True) -> list[Batch]:
    """Batches of several epochs; rows that fill no batch are left out."""
    generator = torch.Generator().manual_seed(0)
    found: list[Batch] = []
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator) if shuffle else torch.arange(len(inputs))
        found += [(inputs[rows], target[rows]) for rows in order.split(size) if len(rows) == size]
    return found


def digits(*shape: int) -> tuple[Tensor, Tensor]:
    """1,797 images of 8 by 8, from 0 to 1, flat or of this shape."""
    table = datasets.load_digits()
    inputs = torch.tensor(table.data, dtype=torch.float32) / 16
    return inputs.reshape(len(inputs), *shape) if shape else inputs, torch.tensor(table.target)


def cancer(*, is_standardised: bool) -> tuple[Tensor, Tensor]:
    """569 rows of 30 features; two classes."""
    table = datasets.load_breast_cancer()
    inputs = torch.tensor(table.data, dtype=torch.float32)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0) if is_standardised else inputs
    return inputs, torch.tensor(table.target)


def diabetes() -> tuple[Tensor, Tensor]:
    """442 rows of 10 features, standardised, with a standardised target of shape (N, 1)."""
    table = datasets.load_diabetes()
    inputs, target = (torch.tensor(part, dtype=torch.float32) for part in (table.data, table.target[:, None]))
    return (inputs - inputs.mean(0)) / inputs.std(0), (target - target.mean()) / target.std()


def perceptron(*sizes: int, activation: type[nn.Module] = nn.ReLU, last: nn.Module | None = None) -> nn.Sequential:
    """Linear layers with an activation between two of them, and perhaps a last function."""
    parts: list[nn.Module] = []
    for before, after in pairwise(sizes):
        parts += [nn.Linear(before, after), activation()]
    parts = parts[:-1]
    return nn.Sequential(*parts, *([last] if last is not None else []))
