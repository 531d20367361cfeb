"""Weight norm and spectral norm: a weight from the tensors that it is computed from, and these from a weight."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.core.errors import PortError
from frostline.porting.layouts.layout import SAME, Combine, Move
from frostline.porting.layouts.rules import fits
from frostline.porting.units.norms import WEIGHT, Norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.porting.units.unit import SourceUnit, TargetUnit

_NEAR = 1e-5  # how far from 1 the largest singular value may be, as float32 computes it


def computed(unit: SourceUnit, target: TargetUnit) -> dict[str, tuple[str, ...]]:
    """The tensors of the layer that the file has under a norm, and the leaves that they are computed from."""
    leaves = set(unit.leaves)
    found: dict[str, tuple[str, ...]] = {}
    for own in target.tensors:
        for ends in (("g", "v"), ("orig", "u", "v")):
            parts = tuple(f"{own}_{end}" for end in ends)
            if set(parts) <= leaves and own not in leaves:
                found[own] = parts
    return found


def plain(unit: SourceUnit, own: str, parts: tuple[str, ...], target: TargetUnit) -> Move | None:
    """How the weight itself is computed."""
    shapes = [unit.leaves[part].shape for part in parts]
    if len(parts) == 2:
        if shapes[0] and any(size not in (1, other) for size, other in zip(*shapes, strict=False)):
            return None
        return Move(own, parts, (SAME,) * 2, combine=Combine("weight norm, g v / |v|", _weight_norm))
    dim = _dim(shapes, first=1 if isinstance(target.module, nn.modules.conv._ConvTransposeNd) else 0)
    if dim is None:
        return None
    return Move(own, parts, (SAME,) * 3, combine=Combine("spectral norm, W / (u W v)", _divided_along(dim)))


def _weight_norm(parts: list[Tensor]) -> Tensor:
    g, v = (part.double() for part in parts)
    return (v * (g / _norm(v, tuple(g.shape)))).to(parts[1].dtype)


def _norm(v: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The norm of `v` over every axis along which a g of this shape has one number."""
    if not shape:
        return v.norm()
    return v.square().sum([axis for axis, size in enumerate(shape) if size == 1], keepdim=True).sqrt()


def _dim(shapes: list[tuple[int, ...]], first: int) -> int | None:
    """The axis along which the matrix of a spectral norm begins: that of its kind of layer, if sizes allow it."""
    (whole, u, v), count = shapes, math.prod(shapes[0])
    axes = [first, *(axis for axis in range(len(whole)) if axis != first)]
    return next(
        (axis for axis in axes if axis < len(whole) and (whole[axis],) == u and (count // whole[axis],) == v), None
    )


def _divided_along(dim: int) -> Callable[[list[Tensor]], Tensor]:
    def divided(parts: list[Tensor]) -> Tensor:
        whole, u, v = (part.double() for part in parts)
        sigma = torch.dot(u, torch.mv(whole.movedim(dim, 0).flatten(1), v))
        return (whole / sigma).to(parts[0].dtype)

    return divided


def without_norms(target: TargetUnit) -> TargetUnit:
    """The layer as if it held its weights themselves."""
    hidden = {part for norm in target.norms.values() for part in norm.tensors}
    tensors = {own: tensor for own, tensor in target.tensors.items() if own not in hidden}
    for own, norm in target.norms.items():
        tensors[own] = torch.empty(norm.shape, device="meta")
    return replace(target, tensors=tensors, norms={})


def with_norms(unit: SourceUnit, target: TargetUnit, moves: tuple[Move, ...]) -> tuple[Move, ...] | None:
    """The moves into the tensors that weights are computed from, from those into the weights.

    Args:
        unit: The source unit.
        target: The layer.
        moves: Into `without_norms(target)`.
    """
    made: list[Move] = []
    for move in moves:
        norm = target.norms.get(move.target)
        if norm is None:
            made.append(move)
        elif not move.sources:
            return None
        else:
            make = _of_weight_norm if norm.kind == WEIGHT else _of_spectral_norm
            made += make(move, norm, target.name)
    found = tuple(made)
    return found if fits(unit, target, found) else None


def _of_weight_norm(move: Move, norm: Norm, name: str) -> list[Move]:
    del name
    g, v = norm.tensors
    shape = tuple(norm.tensors[g].shape)
    length = Combine("the norm", lambda parts: _norm(move.joined(parts).double(), shape).to(parts[0].dtype))
    return [replace(move, target=g, combine=length), replace(move, target=v)]


def _of_spectral_norm(move: Move, norm: Norm, name: str) -> list[Move]:
    orig, u, v = norm.tensors

    def vector(at: int) -> Callable[[list[Tensor]], Tensor]:
        def made(parts: list[Tensor]) -> Tensor:
            matrix = move.joined(parts).movedim(norm.dim, 0).flatten(1)
            if matrix.is_meta:
                return matrix.new_empty(matrix.shape[at])
            left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
            _check(name, float(values[0]))
            return (left[:, 0] if at == 0 else right[0]).to(matrix.dtype)

        return made

    return [
        replace(move, target=orig),
        replace(move, target=u, combine=Combine("first left singular vector", vector(0))),
        replace(move, target=v, combine=Combine("first right singular vector", vector(1))),
    ]


def _check(name: str, largest: float) -> None:
    if abs(largest - 1) > _NEAR:
        raise PortError(
            what="A layer with a spectral norm cannot represent a weight whose largest singular value is not 1.",
            where=name, received=f"{largest:.6g}",
            do="port first, and apply the spectral norm afterwards; or use a file that was saved with it.",
        )  # fmt: skip
