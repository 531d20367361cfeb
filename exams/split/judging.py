"""The law of the exam: stored rows and the head give the outputs and gradients of the model.

The library's own proof is not asked. A second model with the same weights is the reference: a split that shares a
mistake with its proof would pass that proof.
"""

from __future__ import annotations

import tempfile
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import frostline as fl
from frostline.core import inputs as batches
from frostline.core.tolerances import autocast_dtypes, batch_tolerance
from frostline.splitting import frozen_side_in_inference_mode
from frostline.splitting.calls.containers import tensor_paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .cases import Case

EXACT, EQUAL, REFUSED, WRONG, CRASHED, INVALID = (
    "equal to the bit", "equal", "refused", "wrong", "crashed", "no trainable model"
)  # fmt: skip
OUTCOMES = (EXACT, EQUAL, REFUSED, WRONG, CRASHED, INVALID)
SAMPLES, BATCH = 6, 3
# A difference above the tolerance is rounding if a change of the inputs in their last digits does a twentieth of it.
_MARGIN = 20.0
_LAST_DIGITS = 1e-6
_MOVE = 0.1
_LEAST_GRADIENT = 1e-3  # of the largest one: a bias before a BatchNorm has a gradient of nothing but rounding


@dataclass(frozen=True)
class Verdict:
    """What became of a model at a cut.

    Attributes:
        outcome: One of `OUTCOMES`.
        detail: The four parts of a refusal, the difference or the error.
        where: The cut.
        difference: The largest one, relative to the largest value of its tensor.
        num_stored: Tensors of the frontier.
        bytes_per_sample: What is stored.
        num_frozen_in_head: Frozen modules that no trainable value reaches, and that run in the head.
    """

    outcome: str
    detail: str = ""
    where: str = ""
    difference: float = 0.0
    num_stored: int = 0
    bytes_per_sample: int = 0
    num_frozen_in_head: int = 0


@dataclass(frozen=True)
class Run:
    """Outputs and gradients by name."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


def judge(case: Case, cut: str) -> Verdict:
    """The verdict of one model at one cut."""
    model, where = case.frozen(cut)
    reference, _ = case.frozen(cut)
    example, data = case.example(4, 1), case.example(SAMPLES, 2)
    try:
        with _precision(case):
            run(reference, lambda: call(reference, case.example(BATCH, 3)))
    except Exception as error:
        return Verdict(INVALID, f"{type(error).__name__}: {error}"[:300], where)
    try:
        with warnings.catch_warnings(), _precision(case):
            warnings.simplefilter("ignore")
            return replace(_compared(model, reference, example, data), where=where)
    except fl.FrostlineError as error:
        return Verdict(REFUSED, str(error), where)


def _compared(model: nn.Module, reference: nn.Module, example: Any, data: Any) -> Verdict:
    items = [(batches.map_tensors(data, lambda x, at=at: x[at]), at) for at in range(SAMPLES)]
    with tempfile.TemporaryDirectory() as folder, frozen_side_in_inference_mode(reference, example):
        split = fl.split(model, example)
        rows = fl.FeatureCache(folder).fill(split, items, batch_size=4, progress=False)
        ran = num_frozen_upstream(model, split, example)
        move(model)
        move(reference)
        worst = 0.0
        for mode in ("eval", "train"):
            for start, (features, _) in zip(range(0, SAMPLES, BATCH), rows.loader(BATCH), strict=True):
                for module in (model, split.head, reference):
                    module.train()  # some models keep in evaluation what they made of their weights: made anew
                    module.train(mode == "train")
                batch = batches.map_tensors(data, lambda x, at=start: x[at : at + BATCH])
                expected = _seeded_run(reference, lambda own=batch: call(reference, own))
                found = _seeded_run(model, lambda own=features: split.head(*own))
                own, what = difference(found, expected)
                if own > 1.0 and own > _MARGIN * _of_rounding(reference, batch, expected):
                    return Verdict(WRONG, f"{what} in {mode} mode: {own:.1e} of what is allowed", difference=own)
                worst = max(worst, relative(found, expected))
    stored = [tensor for tensor in split.frontier if not tensor.shared]
    size = sum(tensor.bytes_per_sample for tensor in stored)
    return Verdict(EXACT if worst == 0.0 else EQUAL, "", "", worst, len(stored), size, ran)


def _of_rounding(reference: nn.Module, batch: Any, expected: Run) -> float:
    """What a change of the inputs and of the frozen weights in the last digits does."""
    generator = torch.Generator().manual_seed(0)

    def changed(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        noise = torch.rand(tensor.shape, generator=generator) * 2 - 1
        return tensor * (1 + _LAST_DIGITS * noise).to(tensor.dtype)

    kept = {name: own.detach().clone() for name, own in reference.named_parameters() if not own.requires_grad}
    with torch.no_grad():
        for name, own in reference.named_parameters():
            if name in kept:
                own.copy_(changed(own))
    try:
        return difference(_seeded_run(reference, lambda: call(reference, batches.map_tensors(batch, changed))),
                          expected)[0]  # fmt: skip
    finally:
        with torch.no_grad():
            for name, own in reference.named_parameters():
                if name in kept:
                    own.copy_(kept[name])


def difference(found: Run, expected: Run) -> tuple[float, str]:
    """The largest difference in units of the tolerance, and in what."""
    worst, what = 0.0, ""
    largest = max((float(own.abs().max()) for own in expected.gradients.values() if own.numel()), default=0.0)
    for kind in ("outputs", "gradients"):
        ours, theirs = getattr(found, kind), getattr(expected, kind)
        if sorted(ours) != sorted(theirs):
            return float("inf"), f"{kind} {sorted(set(ours) ^ set(theirs))[:5]}"
        for name, tensor in theirs.items():
            least = _LEAST_GRADIENT * largest if kind == "gradients" else 0.0
            own = _difference(ours[name], tensor, least)
            if own > worst:
                worst, what = own, f"{kind[:-1]} {name}"
    return worst, what


def relative(found: Run, expected: Run) -> float:
    """The largest difference, relative to the largest value of its tensor."""
    pairs = [(getattr(found, kind)[name], tensor) for kind in ("outputs", "gradients")
             for name, tensor in getattr(expected, kind).items()]  # fmt: skip
    largest = max((float(own.abs().max()) for own in expected.gradients.values() if own.numel()), default=0.0)
    return max((_difference(a, b, _LEAST_GRADIENT * largest) * _allowed(b) for a, b in pairs), default=0.0)


def _allowed(tensor: Tensor) -> float:
    kinds = [tensor.dtype, *(autocast_dtypes() if tensor.is_floating_point() else [])]
    return max(batch_tolerance(kind, is_on_gpu=False) for kind in kinds) or 1e-12


def _difference(one: Tensor, other: Tensor, least: float) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return float("inf")
    a, b = (
        torch.nan_to_num(x.detach().to(torch.complex128 if x.is_complex() else torch.float64)) for x in (one, other)
    )
    if a.numel() == 0 or torch.equal(a, b):
        return 0.0
    finite = torch.where(b.abs() < 1e30, b.abs(), 0.0)
    return float((a - b).abs().max()) / (max(float(finite.max()), least) or 1.0) / _allowed(other)


def _seeded_run(model: nn.Module, forward: Callable[[], Any]) -> Run:
    torch.manual_seed(11)
    return run(model, forward)


def run(model: nn.Module, forward: Callable[[], Any]) -> Run:
    """A forward pass, and a backward pass from a weighted sum of all outputs; buffers are put back."""
    buffers = {name: own.detach().clone() for name, own in model.named_buffers()}
    model.zero_grad()
    outputs = {".".join(str(step.key) for step in path): own for path, own in tensor_paths(forward())}
    generator = torch.Generator().manual_seed(5)
    parts = [(own.float() * torch.randn(own.shape, generator=generator)).nan_to_num(0.0, 0.0, 0.0).sum()
             for own in outputs.values() if own.requires_grad]  # fmt: skip
    torch.stack(parts).sum().backward()
    gradients = {name: own.grad.detach().clone() for name, own in model.named_parameters() if own.grad is not None}
    with torch.no_grad():
        for name, own in model.named_buffers():
            if name in buffers and own.shape == buffers[name].shape:
                own.copy_(buffers[name])
    return Run({name: own.detach().clone() for name, own in outputs.items()}, gradients)


def call(model: nn.Module, inputs: Any) -> Any:
    """The model on a batch: a tensor, a tuple or a mapping."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


@torch.no_grad()
def move(model: nn.Module) -> None:
    """Move every trainable weight by a tenth of its size, the same in each model of one kind."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        if parameter.requires_grad:
            size = float(parameter.abs().float().mean()) or 0.1
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((noise * _MOVE * size).to(parameter.dtype))


def num_frozen_upstream(model: nn.Module, split: Any, example: Any) -> int:
    """How many frozen modules that nothing trainable feeds run in the head: 0 if it is minimal."""
    fed: set[int] = set()
    ran: list[int] = []
    frozen = [m for m in model.modules() if (own := list(m.parameters())) and not any(p.requires_grad for p in own)]

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if any(tensor.requires_grad for tensor in tensors):
            fed.add(id(module))
        ran.append(id(module))

    handles = [module.register_forward_hook(note, with_kwargs=True) for module in frozen]
    features = split.extract(example)
    ran.clear()
    split.head.eval()  # no running statistics move
    split.head(*features)
    for handle in handles:
        handle.remove()
    return sum(1 for module in ran if module not in fed)


def _precision(case: Case) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if case.is_autocast else nullcontext()
