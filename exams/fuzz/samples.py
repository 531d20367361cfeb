"""The samples of a program: the later ones differ in kind from the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from .programs import Program


def make_samples(program: Program) -> tuple[Any, Tensor]:
    """(inputs of all samples in one batch, labels (N,))."""
    generator = torch.Generator().manual_seed(program.seed)
    count, first = program.count, program.count // 2
    later = slice(first, count)
    shape = {"r": (count, 4), "t": (count, 3, 4), "i": (count, 3)}[program.layout]
    x = torch.randn(shape, generator=generator)
    mask = torch.ones(shape if program.layout != "t" else shape[:2], dtype=torch.bool)
    if program.later == "padded":
        mask[later, 1:] = False
    if program.layout == "i":
        x = _ids(program.later, x, later)
    else:
        _change(program.later, x, later)
    labels = torch.arange(count) % 2
    if program.inputs == "tensor":
        return x, labels
    return ({"x": x, "m": mask} if program.inputs == "mapping" else (x, mask)), labels


def _change(kind: str, x: Tensor, later: slice) -> None:
    part = x[later]
    if kind in ("scaled", "shifted", "negative", "tiny"):
        part.mul_({"scaled": 9, "tiny": 1e-3, "negative": -1, "shifted": 1}[kind])
        part.add_({"shifted": 5, "negative": -4}.get(kind, 0))
    elif kind == "zeros":
        part.zero_()
    elif kind == "rounded":
        part.round_()
    elif kind == "copies":
        part.copy_(part[:1].clone().expand_as(part))
    elif kind == "outlier":
        part[len(part) // 3].mul_(20)
    elif kind == "padded":
        part[:, 1:] = 0


def _ids(kind: str, x: Tensor, later: slice) -> Tensor:
    ids = x.abs().mul(4).long().clamp(1, 8)
    part = ids[later]
    if kind in ("padded", "zeros", "tiny"):
        part[:, 1 if kind == "padded" else 0 :] = 0
    elif kind in ("copies", "rounded"):
        part.copy_(part[:1].clone().expand_as(part))
    elif kind == "scaled":
        part.fill_(8)
    elif kind == "outlier":
        part[len(part) // 3] = 0
    return ids


def take(inputs: Any, index: list[int]) -> Any:
    """These samples as a batch, in memory of their own."""
    if isinstance(inputs, dict):
        return {name: tensor[index] for name, tensor in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(tensor[index] for tensor in inputs)
    return inputs[index]


def as_dataset(inputs: Any, labels: Tensor) -> list[tuple[Any, int]]:
    """Samples one by one, as `fit` takes them."""
    rows = []
    for at in range(len(labels)):
        if isinstance(inputs, dict):
            row = {name: tensor[at].clone() for name, tensor in inputs.items()}
        elif isinstance(inputs, tuple):
            row = tuple(tensor[at].clone() for tensor in inputs)
        else:
            row = inputs[at].clone()
        rows.append((row, int(labels[at])))
    return rows
