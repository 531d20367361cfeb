"""The proof of the head on one batch, with other trainable weights than those of the recording.

Features from before the weights moved, through the head after the move, equal the model after the move: in outputs,
gradients and buffers. With unmoved weights, a value frozen into the head by mistake would not show.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import FrostlineError, SplitError
from frostline.core.layers import has_recurrent
from frostline.core.restore import (
    generator_states,
    kept_attributes,
    kept_buffers,
    kept_generators,
    kept_gradients,
    kept_modes,
    kept_parameters,
    plain_kernels,
    set_generator_states,
)
from frostline.core.tolerances import autocast_dtypes
from frostline.splitting.calls.containers import is_same, tensor_paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.splitting.parts.head import Head

# Kernels may differ by memory format and path; a value frozen into the head by mistake is off by far more, because
# every trainable weight moves by a twentieth of its size. In units of the largest value compared.
_TOLERANCES = {
    torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2,
    torch.complex128: 1e-9, torch.complex64: 2e-4,
}  # fmt: skip
_MOVE = 0.05
_PERIOD = 65_521  # drawn numbers by which a weight moves, again and again: a prime, so that no axis is in step with it


@dataclass(frozen=True)
class Verification:
    """What a verification compared.

    Attributes:
        samples: Samples in the batch.
        compared: Tensors compared: outputs, gradients and buffers, in both modes.
        largest_difference: Between the head and the model, relative to the largest value of the tensor.
        is_exact: True if every tensor was equal to the last bit.
        is_of_both_modes: False if a mode compared nothing, since the model takes no such batch there.
    """

    samples: int
    compared: int
    largest_difference: float
    is_exact: bool
    is_of_both_modes: bool = True

    def __str__(self) -> str:
        verdict = "equal to the last bit" if self.is_exact else f"largest difference {self.largest_difference:.1e}"
        return f"verified on {self.samples} samples, {self.compared} tensors: {verdict}"


@dataclass
class Outcome:
    """What one run gives: outputs by the path to them, gradients by parameter, buffers after it."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]


def verify_head(
    model: nn.Module,
    head: Head,
    features: tuple[Tensor, ...],
    reference: Callable[[Any], Any],
    inputs: Any,
    modes: tuple[str, ...],
    moved: frozenset[str] = frozenset(),
    *,
    has_backward: bool = True,
    between: Any = None,
    least_gradient: float = 0.0,
) -> Verification:
    """Compare head and model on a batch, in outputs, gradients and buffer changes.

    Args:
        model: The model; everything in it is put back to the bit.
        head: Its head.
        features: Those of the batch, from before the weights move.
        reference: Runs the model on a batch; noise that feeds frozen layers is off.
        inputs: The batch.
        modes: `train`, `eval`, or both.
        moved: Buffers that training moves: they are moved as the weights are.
        has_backward: False compares outputs and buffers only.
        between: A batch that the model runs over before the head does, so that what a layer has left in a global or a
            closure is not that of the same batch; None where the head runs no code of the model.
        least_gradient: Gradients below this share of the largest one are compared on its scale: where the features
            are not those of the very same batch, a gradient that is zero but for rounding differs from itself.

    Raises:
        SplitError: If they differ: it says in what.
    """
    proof = _Proof(model, head, features, reference, inputs, modes, moved, has_backward, between, least_gradient)
    is_on_gpu = next(model.parameters()).is_cuda
    if is_on_gpu:
        with suppress(SplitError), kernels_for(model):  # fused kernels draw noise by the layout of their arguments
            return proof.run()
    with plain_kernels() if is_on_gpu else nullcontext():
        return proof.run()


def kernels_for(model: nn.Module) -> AbstractContextManager[None]:
    """Plain ones if a GPU runs recurrent layers: those of cuDNN hide their noise, and have no backward in eval mode."""
    return plain_kernels() if next(model.parameters()).is_cuda and has_recurrent(model) else nullcontext()


@dataclass(frozen=True)
class _Proof:
    """The arguments of `verify_head`."""

    model: nn.Module
    head: Head
    features: tuple[Tensor, ...]
    reference: Callable[[Any], Any]
    inputs: Any
    modes: tuple[str, ...]
    moved: frozenset[str]
    has_backward: bool
    between: Any
    least_gradient: float

    def run(self) -> Verification:
        features = tuple(f.detach().clone(memory_format=torch.contiguous_format) for f in self.features)
        kept = [feature.clone() for feature in features]
        with (
            kept_modes(self.model), kept_modes(self.head), kept_gradients(self.model), kept_parameters(self.model),
            kept_buffers(self.model), kept_generators(), kept_attributes(self.model, numbers=True),
        ):  # fmt: skip
            _move(self.model, self.moved)
            by_mode = [self._compared(mode, features) for mode in self.modes]
        if any(not torch.equal(_bits(a), _bits(b)) for a, b in zip(features, kept, strict=True)):
            raise SplitError(
                what="The head writes into its features.",
                where="split.head",
                received="features that changed while the head ran",
                do="report this model: stored features must never change.",
            )
        worst, count = max((max(found, default=0.0) for found in by_mode), default=0.0), sum(map(len, by_mode))
        return Verification(batches.batch_size(self.inputs), count, worst, worst == 0.0, all(by_mode))

    def _compared(self, mode: str, features: tuple[Tensor, ...]) -> list[float]:
        differences: list[float] = []
        passes = (True, False) if mode == "eval" and self.has_backward else (True,)
        for is_learning in passes:  # evaluation runs without gradients, too
            states = generator_states()
            expected = self._run(self.model, mode, lambda: self.reference(self.inputs), is_learning)
            if self.between is not None:
                self._run(self.model, mode, lambda: self.reference(self.between), is_learning)
            set_generator_states(states)
            found = self._run(self.head, mode, lambda: self.head.recorded(*features), is_learning)
            named = mode if is_learning else "eval (without gradients)"
            differences += compare_outcomes(expected, found, named, self.least_gradient)
        return differences

    def _run(self, module: nn.Module, mode: str, forward: Callable[[], Any], is_learning: bool) -> Outcome | Exception:
        with kept_buffers(self.model), kept_attributes(self.model, numbers=True):  # both sides start alike
            module.train(mode == "train")
            return run_once(self.model, forward, is_learning=is_learning, has_backward=self.has_backward)


def compare_outcomes(
    expected: Outcome | Exception, found: Outcome | Exception, mode: str, least_gradient: float = 0.0
) -> list[float]:
    """The differences of the tensors of two runs; where the model fails, as on too few samples, the head must too.

    Raises:
        SplitError: If they differ by more than kernels do.
    """
    if isinstance(expected, Exception) and isinstance(found, Exception):
        return []
    if isinstance(expected, Exception):
        reason = f"an output, where the model raises {type(expected).__name__}: {expected}"
        raise _differ(mode, "the head", reason) from expected
    if isinstance(found, Exception):
        reason = found.received if isinstance(found, SplitError) else f"{type(found).__name__}: {found}"
        raise _differ(mode, "the head", reason, HeadFailsError) from found
    return _compare(expected, found, mode, least_gradient)


def run_once(
    model: nn.Module, forward: Callable[[], Any], *, is_learning: bool = True, has_backward: bool = True
) -> Outcome | Exception:
    """One forward pass, and a backward pass if it learns; an error is an outcome, too.

    A model may refuse a batch by an assertion, by an error of its own class or of a script, and so must its head. That
    it takes the example was seen before.
    """
    for parameter in model.parameters():
        parameter.grad = None
    with torch.set_grad_enabled(is_learning):
        try:
            result = forward()
        except SplitError as error:
            return error
        except FrostlineError:
            raise
        except Exception as error:
            return error
        outputs = {"".join(f".{step.key}" for step in path): tensor for path, tensor in tensor_paths(result)}
        if is_learning and has_backward:
            _backward(list(outputs.values()))
        buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    detached = {name: tensor.detach().clone() for name, tensor in outputs.items()}
    return Outcome(detached, gradients, buffers)


def _backward(outputs: list[Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    total: Tensor | None = None
    for output in outputs:
        if not output.requires_grad:
            continue
        weights = torch.randn(output.shape, generator=generator).to(output.device, output.dtype)
        part = (output * weights).nan_to_num(0.0, 0.0, 0.0).sum()
        total = part if total is None else total + part.to(total.dtype)
    if total is None:
        raise SplitError(
            what="No output of the model depends on a trainable weight.",
            where="the model's output",
            received=f"{len(outputs)} tensor{'s' * (len(outputs) != 1)} without gradients",
            do="check that forward returns what the loss needs, outside of torch.no_grad().",
        )
    total.backward()


def _move(model: nn.Module, buffers: frozenset[str]) -> None:
    """Move every trainable weight and these buffers by a twentieth of their size; counters by one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                size = parameter.detach().abs().float().mean().item() or 0.1
                noise = _noise(parameter.shape, generator).to(parameter.device, torch.float32)
                parameter.add_((noise * (_MOVE * size)).to(parameter.dtype))
        for name, buffer in model.named_buffers():
            if name in buffers and buffer.is_floating_point():  # a variance stays positive
                share = torch.rand(buffer.shape, generator=generator).to(buffer.device, torch.float32)
                buffer.mul_((1 + _MOVE * share).to(buffer.dtype)).add_(_MOVE)
            elif name in buffers and buffer.dtype in (torch.int64, torch.int32):
                buffer.add_(1)


def _noise(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Normal numbers; of a large weight the first ones come again, since drawing them would take most of the proof."""
    count = shape.numel()
    drawn = torch.randn(min(count, _PERIOD), generator=generator)
    return drawn.repeat(-(-count // _PERIOD))[:count].view(shape) if count > _PERIOD else drawn.view(shape)


def _compare(expected: Outcome, found: Outcome, mode: str, least_gradient: float) -> list[float]:
    differences: list[float] = []
    # Features of another batch were rounded in another way: under autocast, to its precision.
    kinds = autocast_dtypes() if least_gradient else []
    coarsest = max((_TOLERANCES.get(kind, 0.0) for kind in kinds), default=0.0)
    gradients = [own for own in expected.gradients.values() if own is not None and own.numel() and least_gradient]
    least = least_gradient * max((float(own.abs().max()) for own in gradients), default=0.0)
    for what in ("outputs", "gradients", "buffers"):
        ours, theirs = getattr(found, what), getattr(expected, what)
        if list(ours) != list(theirs):
            raise _differ(mode, what, f"{sorted(ours)} from the head, {sorted(theirs)} from the model")
        for name in ours:
            named = f"{what[:-1]} {name.lstrip('.')}".rstrip()
            scale = least if what == "gradients" else 0.0
            differences.append(_difference(ours[name], theirs[name], mode, named, scale, coarsest))
    return differences


def _difference(
    ours: Tensor | None, theirs: Tensor | None, mode: str, what: str, least_scale: float = 0.0, coarsest: float = 0.0
) -> float:  # fmt: skip
    if ours is None and theirs is None:
        return 0.0
    if ours is None or theirs is None or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        shapes = [None if t is None else (str(t.dtype), tuple(t.shape)) for t in (ours, theirs)]
        raise _differ(mode, what, f"{shapes[0]} from the head, {shapes[1]} from the model")
    if ours.layout is not torch.strided and is_same(ours, theirs):  # a sparse buffer: no step moves one
        return 0.0
    ours, theirs = (own if own.layout is torch.strided else own.to_dense() for own in (ours, theirs))
    if ours.numel() == 0 or torch.equal(ours, theirs) or torch.equal(_bits(ours), _bits(theirs)):
        return 0.0
    tolerance = max(_TOLERANCES[ours.dtype], coarsest) if ours.dtype in _TOLERANCES else 0.0
    wide = torch.complex128 if ours.is_complex() else torch.float64
    a, b = ours.to(wide), theirs.to(wide)
    is_special = ~(torch.isfinite(a) & torch.isfinite(b))
    has_other_special = bool((is_special & ~((a == b) | (a.isnan() & b.isnan()))).any())
    finite = torch.where(is_special, 0.0, (a - b).abs())
    scale = max(least_scale, float(torch.where(is_special, 0.0, b.abs()).max()))
    relative = float(finite.max()) / (scale or 1.0)
    if has_other_special or relative > tolerance:
        raise _differ(mode, what, f"relative difference {relative:.1e}, allowed {tolerance:.0e}")
    return relative


def _bits(tensor: Tensor) -> Tensor:
    """Equal where values are equal, NaN included."""
    return torch.nan_to_num(tensor) if tensor.is_floating_point() else tensor


class HeadFailsError(SplitError):
    """The head raises an error where the model gives an output: a training ends with it, and learns nothing wrong."""


def _differ(mode: str, what: str, received: str, kind: type[SplitError] = SplitError) -> SplitError:
    return kind(
        what="The head does not equal the model after the trainable weights moved.",
        where=f"{what}, in {mode} mode",
        received=received,
        do="freeze through a whole module instead of into the middle of this one, so that its values reach the head; "
        "or train without a cache: frostline.fit(..., cache=False).",
    )
