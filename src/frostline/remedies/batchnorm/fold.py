"""Fold BatchNorm away for prediction, with a certificate of equality."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from frostline.core.arguments import as_number, check_model
from frostline.core.batchnorm_merge import affine, is_batchnorm_with_activation, merge_after, wide
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import call_with_model, check_readable
from frostline.core.records import Change
from frostline.core.restore import kept_buffers, kept_generators, plain_kernels
from frostline.core.timing import interleaved, paired_ratio
from frostline.core.tracing import Step, Trace, tensors_in, trace
from frostline.remedies.batchnorm.insertion_points import LAYERS
from frostline.remedies.batchnorm.layers import LastAxisBatchNorm
from frostline.remedies.surgery import Snapshot, grouped, replace_everywhere, slots

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, LastAxisBatchNorm)
_ROUNDS = 11  # pairs of predictions behind a speed-up; chosen by us


@dataclass(frozen=True)
class FoldCertificate:
    """What was folded, and how equal the folded model is on the example.

    Attributes:
        change: The folded layers, the undo and the notes.
        folded: BatchNorms that are gone.
        refused: BatchNorms that stay, each with the reason (`"norm0: an activation stands before the next layer"`).
        largest_difference: Largest difference between the outputs, as a share of the largest output.
        speed_up: Seconds of a prediction before, divided by those after: the median of paired runs on the example.
    """

    change: Change
    folded: tuple[str, ...]
    refused: tuple[str, ...]
    largest_difference: float
    speed_up: float

    def __str__(self) -> str:
        first = f"{len(self.folded)} BatchNorms folded, {len(self.refused)} refused"
        second = f"largest difference {self.largest_difference:.1e}, {self.speed_up:.2f} times as fast"
        return "\n".join([f"{first}; {second}", *self.change.notes])


@dataclass(frozen=True)
class _Fold:
    name: str
    norm: Any
    layer_name: str
    layer: nn.Module
    is_after: bool


@public("fold_batchnorm")
def fold_batchnorm(model: nn.Module, example: Any, *, tolerance: float = 1e-5) -> FoldCertificate:
    """Merge BatchNorms into the layers beside them, in place, for prediction; frozen layers as well.

    Which layer feeds which BatchNorm, and nothing else, is found by running the model on the example. A BatchNorm is
    folded into the linear or convolution layer before it, or else into the one after it where that is exact: never
    into a zero-padded or transposed convolution. An activation inside a fused BatchNorm (timm's BatchNormAct2d)
    survives. Optimizers over the model should be made anew.

    Args:
        model: In eval mode, since a BatchNorm in training mode depends on its batch.
        example: A batch as the model takes it. A forward that takes other ways for other inputs is judged on this one.
        tolerance: Largest difference that is allowed, as a share of the largest output: 1e-5 holds in float32.

    Returns:
        The certificate; `certificate.change.undo()` brings the BatchNorms back to the bit.

    Raises:
        DataError: If a BatchNorm is in training mode, or the outputs differ by more than the tolerance; the model is
            as it was.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()).eval()
        >>> fold_batchnorm(model, torch.randn(8, 4)).folded
        ('1',)
        >>> model
        Sequential(
          (0): Linear(in_features=4, out_features=4, bias=True)
          (1): Identity()
          (2): ReLU()
        )
    """
    check_model("fold_batchnorm", model)
    check_readable(example)
    tolerance = as_number("fold_batchnorm", "tolerance", tolerance, least=0)
    norms = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    training = [name for name, norm in norms.items() if norm.training]
    if training or model.training:
        raise DataError(
            what="A model in training mode cannot be folded.", where=", ".join(training[:3]) or type(model).__name__,
            received=f"{len(training)} BatchNorms in training mode", do="call model.eval() first.",
        )  # fmt: skip
    snapshot = Snapshot(model)
    with plain_kernels():  # the proof is of the merged weights, not of TF32
        traced = trace(model, example)
    folds, refused = _plan(model, traced, norms)
    try:
        for fold in folds:
            merged = merge_after(fold.layer, fold.norm) if fold.is_after else merge_before(fold.norm, fold.layer)
            write(fold.layer, *merged)
            replace_everywhere(model, fold.norm, _remainder(fold.norm))
        with plain_kernels():
            difference = _difference(tensors_in(traced.output), tensors_in(_predict(model, example)))
        if not difference <= tolerance:
            raise DataError(
                what="The folded model is not the same model.", where="fold_batchnorm(tolerance=...)",
                received=f"outputs differ by {difference:.1e} of the largest one, allowed {tolerance:.1e}",
                do="raise the tolerance if these are roundings; the model is as it was.",
            )  # fmt: skip
    except Exception:
        snapshot.restore()
        raise
    layers = tuple(dict.fromkeys(fold.layer_name for fold in folds))
    change = Change(layers, snapshot.restore, grouped(refused))
    reasons = tuple(f"{name}: {reason}" for name, reason in refused)
    speed_up = _speed_up(model, example, snapshot)
    return FoldCertificate(change, tuple(fold.name for fold in folds), reasons, difference, speed_up)


def _plan(model: nn.Module, traced: Trace, norms: dict[str, Any]) -> tuple[list[_Fold], list[tuple[str, str]]]:
    """What can be folded; a layer takes at most one BatchNorm on each side, and each is judged on its own."""
    names = {id(module): name for name, module in model.named_modules()}
    folds: list[_Fold] = []
    refused: list[tuple[str, str]] = []
    for name, norm in norms.items():
        calls = traced.calls(norm)
        reason = _unfit(norm, calls)
        if reason is None:
            before = [traced.steps[at] for at in sorted(calls[0].takes)]
            after = [traced.steps[at] if at >= 0 else None for at in sorted(calls[0].feeds)]
            layer, reason = _layer_before(model, traced, norm, calls[0], before)
            is_after = layer is not None
            if layer is None and (is_batchnorm_with_activation(norm) or len(after) != 1 or not _is_layer(after[0])):
                reason = f"{reason}; no layer takes its output alone"
            elif layer is None and after[0] is not None:
                layer, reason = _layer_after(model, traced, calls[0], after[0])
            if layer is not None:
                folds.append(_Fold(name, norm, names[id(layer)], layer, is_after))
                continue
        refused.append((name, str(reason)))
    return folds, refused


def _unfit(norm: Any, calls: list[Step]) -> str | None:
    if norm.running_mean is None:
        return "keeps no running statistics"
    if len(calls) != 1:
        return f"called {len(calls)} times in one pass"
    if type(norm) not in _PLAIN and not is_batchnorm_with_activation(norm):
        return f"a {type(norm).__name__} may do more than normalise"
    return "has hooks" if _has_hooks(norm) else None


def _layer_before(
    model: nn.Module, traced: Trace, norm: Any, step: Step, before: list[Step]
) -> tuple[nn.Module | None, str | None]:
    if len(before) != 1 or not _is_layer(before[0]):
        return None, "no linear or convolution layer feeds it"
    layer: Any = before[0].module
    if before[0].feeds != {step.at}:
        return None, f"the output of {before[0].name} goes elsewhere, too"
    is_last_axis = isinstance(norm, LastAxisBatchNorm) or (
        isinstance(norm, nn.BatchNorm1d) and len(step.shapes[0]) == 2
    )
    if isinstance(layer, nn.Linear) != is_last_axis:
        return None, f"it normalises another axis than the outputs of {before[0].name}"
    reason = _unfit_layer(model, traced, before[0])
    return (layer, None) if reason is None else (None, reason)


def _layer_after(model: nn.Module, traced: Trace, step: Step, after: Step) -> tuple[nn.Module | None, str | None]:
    layer: Any = after.module
    if after.takes != {step.at}:
        return None, f"{after.name} takes other inputs, too"
    if isinstance(layer, nn.Linear) != (isinstance(step.module, LastAxisBatchNorm) or len(step.shapes[0]) == 2):
        return None, f"it normalises another axis than the inputs of {after.name}"
    if getattr(layer, "transposed", False):
        return None, f"stands before the transposed convolution {after.name}, whose border gets fewer inputs"
    if not isinstance(layer, nn.Linear) and layer.padding_mode == "zeros" and _pads(layer):
        return None, f"stands before the zero-padded convolution {after.name}, whose border would change"
    reason = _unfit_layer(model, traced, after)
    return (layer, None) if reason is None else (None, reason)


def _unfit_layer(model: nn.Module, traced: Trace, step: Step) -> str | None:
    layer: Any = step.module
    kind = next(kind for kind in LAYERS if isinstance(layer, kind))
    if type(layer).forward is not kind.forward or is_parametrized(layer) or "weight" not in layer._parameters:
        return f"{step.name} computes its weight"
    if len(traced.calls(layer)) != 1:
        return f"{step.name} is called several times in one pass"
    own = [layer.weight, *([layer.bias] if layer.bias is not None else [])]
    if any(slots(model, parameter) > 1 for parameter in own):
        return f"{step.name} shares its weight with another layer"
    if any(id(parameter) in other.parameters for parameter in own for other in traced.steps):
        return f"the weight of {step.name} is used elsewhere, too"
    if not layer.weight.is_floating_point():
        return f"{step.name} has weights that are not real numbers"
    return f"{step.name} has hooks" if _has_hooks(layer) else None


def _is_layer(step: Step | None) -> bool:
    return step is not None and isinstance(step.module, LAYERS)


def _pads(layer: Any) -> bool:
    if isinstance(layer.padding, str):
        return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)
    return any(layer.padding)


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _remainder(norm: Any) -> nn.Module:
    """What is left of a BatchNorm without its normalisation."""
    if not is_batchnorm_with_activation(norm):
        return nn.Identity()
    return nn.Sequential(OrderedDict([("drop", norm.drop), ("act", norm.act)]))


def _predict(model: nn.Module, example: Any) -> Any:
    with ExitStack() as stack:
        for context in (kept_generators(), kept_buffers(model), torch.no_grad()):
            stack.enter_context(context)
        return call_with_model(model, example)


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    largest = 0.0
    for old, new in zip(before, after, strict=True):
        if old.numel():
            apart, size = float((new.double() - old.double()).abs().max()), float(old.double().abs().max())
            largest = max(largest, apart / size if size else apart) if apart == apart else float("nan")
    return largest


def _speed_up(model: nn.Module, example: Any, original: Snapshot) -> float:
    folded = Snapshot(model)
    switch: list[Callable[[], object]] = [original.restore, folded.restore]

    def predict() -> Any:
        return _predict(model, example)

    before, after = interleaved([predict, predict], rounds=_ROUNDS, before=switch)
    folded.restore()
    return paired_ratio(before, after)


def merge_before(norm: Any, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """(weight, bias) of the norm followed by the layer; exact only where nothing is padded with zeros."""
    scale_C, shift_C = affine(norm)
    weight, bias_O = wide(layer)
    groups = int(getattr(layer, "groups", 1))
    kernel = [1] * (weight.dim() - 2)
    scale = scale_C.reshape(groups, 1, -1, *kernel)
    shift = shift_C.reshape(groups, 1, -1, *kernel)
    by_group = weight.reshape(groups, -1, *weight.shape[1:])  # (G, O/G, I/G, K...)
    added_O = (by_group * shift).flatten(2).sum(2).reshape(-1)
    return (by_group * scale).reshape(weight.shape), bias_O + added_O


def write(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Put the merged values into the layer; it gains a bias if it had none."""
    own: Any = layer.weight
    with torch.no_grad():
        own.copy_(weight)
        if layer._parameters.get("bias") is None:
            made = torch.empty(bias.shape, dtype=own.dtype, device=own.device)
            layer._parameters["bias"] = nn.Parameter(made, requires_grad=own.requires_grad)
        layer._parameters["bias"].copy_(bias)  # type: ignore[union-attr]
