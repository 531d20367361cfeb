"""Weight norm and spectral norm: computation of a weight from its norm's tensors, and the reverse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frostline.core.errors import PortError
from frostline.porting.layouts.layout import SAME, Combine, Move, reshaped
from frostline.porting.layouts.rules import fits
from frostline.porting.units.weight_norms import WEIGHT, Norm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.porting.units.unit import SourceUnit, TargetUnit

SCALE, VECTOR = "_scale", "_u"  # suffixes of the tensors that Flax stores beside a tensor with a norm
_EPSILON = 1e-12  # which Flax adds to the sum of squares
_NEAR = 1e-5  # allowed difference of the largest singular value from 1, for float32


def computed(unit: SourceUnit, target: TargetUnit) -> dict[str, tuple[str, ...]]:
    """The tensors of the layer for which the file has the tensors of a norm, with the leaves of these."""
    leaves = set(unit.leaves)
    found: dict[str, tuple[str, ...]] = {}
    for own in target.tensors:
        for ends in (("g", "v"), ("orig", "u", "v")):
            parts = tuple(f"{own}_{end}" for end in ends)
            if set(parts) <= leaves and own not in leaves:
                found[own] = parts
    return found


def plain(unit: SourceUnit, own: str, parts: tuple[str, ...], target: TargetUnit) -> Move | None:
    """The move that computes the weight itself; None if the parts do not fit."""
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
    """The norm of `v` over every axis on which a `g` of this shape has size 1."""
    if not shape:
        return v.norm()
    return v.square().sum([axis for axis, size in enumerate(shape) if size == 1], keepdim=True).sqrt()


def _dim(shapes: list[tuple[int, ...]], first: int) -> int | None:
    """The axis of the rows in the matrix of a spectral norm: the default of the layer type, if the sizes fit."""
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
    """The layer with its plain weights instead of the tensors of their norms."""
    hidden = {part for norm in target.norms.values() for part in norm.tensors}
    tensors = {own: tensor for own, tensor in target.tensors.items() if own not in hidden}
    for own, norm in target.norms.items():
        tensors[own] = torch.empty(norm.shape, device="meta")
    return replace(target, tensors=tensors, norms={})


def with_norms(unit: SourceUnit, target: TargetUnit, moves: tuple[Move, ...]) -> tuple[Move, ...] | None:
    """The moves into the tensors of the norms, from the moves into the weights.

    Args:
        unit: The source unit.
        target: The layer.
        moves: The moves into `without_norms(target)`.
    """
    made: list[Move] = []
    for move in moves:
        norm = target.norms.get(move.target)
        if norm is None:
            made.append(move)
        elif not move.sources:
            return None
        else:
            made += _into_norm(move, norm, target.name)
    found = tuple(made)
    return found if fits(unit, target, found) else None


def _into_norm(move: Move, norm: Norm, name: str) -> list[Move]:
    return _of_weight_norm(move, norm) if norm.kind == WEIGHT else _of_spectral_norm(move, norm, name)


def _of_weight_norm(move: Move, norm: Norm) -> list[Move]:
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
            do="port first and apply the spectral norm afterwards, or use a file that was saved with the norm.",
        )  # fmt: skip


def is_of_flax(unit: SourceUnit) -> bool:
    """Whether a tensor of the unit has a norm of Flax."""
    return unit.framework == "flax" and any(_leaf_of_norm(unit, leaf) for leaf in unit.leaves)


def assumed_of(unit: SourceUnit) -> str:
    """The settings of a Flax norm that the file does not state and for which defaults are assumed; may be empty."""
    found: list[str] = []
    for leaf, tensor in unit.leaves.items():
        if leaf.endswith(VECTOR) and _leaf_of_norm(unit, leaf.removesuffix(VECTOR)) == leaf:
            found.append("steps of the power iteration")
        elif leaf.endswith(SCALE) and _leaf_of_norm(unit, leaf.removesuffix(SCALE)) == leaf:
            shape = unit.leaves[leaf.removesuffix(SCALE)].shape
            found += ["axis of the weight norm"] if len(shape) > 1 and tensor.shape[-1] in shape[:-1] else []
    return ", ".join(dict.fromkeys(found))


def _leaf_of_norm(unit: SourceUnit, leaf: str) -> str:
    return next((f"{leaf}{end}" for end in (SCALE, VECTOR) if f"{leaf}{end}" in unit.leaves), "")


def of_flax(
    unit: SourceUnit, target: TargetUnit, rule: Callable[[SourceUnit, TargetUnit], tuple[Move, ...] | None]
) -> tuple[Move, ...] | None:
    """The moves from a Flax layer with a norm to a PyTorch layer, with the same norm or without one.

    The norm of a kernel is taken over all axes except the last one, which is the default of `WeightNorm`.

    Args:
        unit: The unit, with the tensors of its norm that `unwrapped` added.
        target: The layer of the module.
        rule: The layout rule for the layer without norms.

    References:
        Flax 0.12, `linen/normalization.py`; measured against PyTorch 2.13.
    """
    kept = {_leaf_of_norm(unit, leaf) for leaf in unit.leaves}
    bare = replace(unit, leaves={leaf: tensor for leaf, tensor in unit.leaves.items() if leaf not in kept})
    made: list[Move] = []
    for move in rule(bare, without_norms(target)) or ():
        norm_leaf = _leaf_of_norm(unit, move.sources[0]) if len(move.sources) == 1 else ""
        norm = target.norms.get(move.target)
        shape = without_norms(target).tensors[move.target].shape
        axis = _outputs(target.module) if len(shape) > 1 else 0
        if norm_leaf and math.prod(unit.leaves[norm_leaf].shape) != shape[axis]:
            return None
        made += _under(unit, target.name, replace(move, axis=axis), norm, norm_leaf, shape)
    found = tuple(made)
    return found if {move.target for move in found} == set(target.tensors) and fits(unit, target, found) else None


def _outputs(module: nn.Module) -> int:
    """The axis of PyTorch's weight that is the last one in Flax."""
    is_turned = isinstance(module, (nn.modules.conv._ConvTransposeNd, nn.Embedding, nn.EmbeddingBag))
    return 1 if is_turned else 0


def _under(
    unit: SourceUnit, name: str, move: Move, norm: Norm | None, norm_leaf: str, shape: Sequence[int]
) -> list[Move]:  # fmt: skip
    """The moves into a tensor, or into the tensors of its norm in the module."""
    axis = move.axis
    wide = tuple(size if at == axis else 1 for at, size in enumerate(shape))
    if norm_leaf.endswith(SCALE):
        along = reshaped("one for each output", unit.leaves[norm_leaf].shape, wide)
        if norm is not None and norm.kind == WEIGHT and tuple(next(iter(norm.tensors.values())).shape) == wide:
            g, v = norm.tensors
            return [Move(g, (norm_leaf,), (along,)), replace(move, target=v)]
        combine = Combine("weight norm, g v / |v|", _scaled)
        move = Move(move.target, (*move.sources, norm_leaf), (*move.layouts, along), axis, combine=combine)
    elif norm_leaf:
        flat = reshaped("as a vector", unit.leaves[norm_leaf].shape, (shape[axis],))
        sources, layouts = (*move.sources, norm_leaf), (*move.layouts, flat)
        if norm is not None and norm.kind != WEIGHT and norm.dim == axis:
            orig, u, v = norm.tensors
            steps = [Combine(f"{one} vector after a step of the power iteration", _iterated(axis, at))
                     for at, one in enumerate(("left", "right"))]  # fmt: skip
            return [replace(move, target=orig), *(Move(own, sources, layouts, axis, combine=step)
                                                  for own, step in zip((u, v), steps, strict=True))]  # fmt: skip
        combine = Combine("spectral norm, W / (u W v), after a step of the power iteration", _divided(axis))
        move = Move(move.target, sources, layouts, axis, combine=combine)
    if norm is None:
        return [move]
    return _into_norm(move, norm, name) if move.sources else []


def _scaled(parts: list[Tensor]) -> Tensor:
    v, g = (part.double() for part in parts)
    axes = [axis for axis, size in enumerate(g.shape) if size == 1 and v.shape[axis] > 1]
    length = v.square().sum(axes, keepdim=True) if axes else v.square()
    return (v * (length + _EPSILON).rsqrt() * g).to(parts[0].dtype)


def _step(parts: list[Tensor], axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Both vectors and the singular value after one power iteration step, which Flax also makes in evaluation."""
    matrix, start = parts[0].double().movedim(axis, 0).flatten(1), parts[1].double()
    right = matrix.mT @ start
    right = right * (right.square().sum() + _EPSILON).rsqrt()
    left = matrix @ right
    left = left * (left.square().sum() + _EPSILON).rsqrt()
    return left, right, left @ matrix @ right


def _iterated(axis: int, at: int) -> Callable[[list[Tensor]], Tensor]:
    return lambda parts: _step(parts, axis)[at].to(parts[0].dtype)


def _divided(axis: int) -> Callable[[list[Tensor]], Tensor]:
    def divided(parts: list[Tensor]) -> Tensor:
        sigma = _step(parts, axis)[2]
        return (parts[0].double() / torch.where(sigma != 0, sigma, 1)).to(parts[0].dtype)

    return divided
