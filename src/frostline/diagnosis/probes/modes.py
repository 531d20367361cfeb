"""Training and evaluation mode: which layers train in the wrong one, and what the outputs are in evaluation mode.

Legend: B samples of a batch.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frostline.core import inputs as batches
from frostline.core.errors import FOREIGN, DataError
from frostline.core.layers import is_pinned
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import ModeFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.diagnosis.experiments.batches import Batch

_FEWEST = 8  # rows that say whether outputs differ
_SAME = 1e-6  # of the largest output: rounding
_DROPOUTS = (nn.modules.dropout._DropoutNd,)
_DROPS = frozenset({
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout",
})  # fmt: skip
_KEEP_VALUES = frozenset({
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "contiguous", "float",
    "softmax", "log_softmax", "sigmoid", "logsigmoid",
})  # fmt: skip


def facts_of_modes(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> ModeFacts:
    """How the modes of a trained model are set, and what it answers in evaluation mode.

    Args:
        model: In the modes in which it has trained; left as it is.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    silent = {name: module for name, module in model.named_modules() if not module.training and not is_pinned(module)}
    norms = {name: module for name, module in silent.items() if _is_trainable_norm(module)}
    never = tuple(name for name, module in norms.items() if _is_as_made(module))
    dropouts = tuple(name for name, module in silent.items() if isinstance(module, _DROPOUTS) and module.p > 0)
    before = tuple(name for name in norms if name not in never)
    redraws, is_constant, remembers = _answers(model, batch[0])
    active = [module.p for module in model.modules() if isinstance(module, _DROPOUTS) and module.training]
    train_loss, eval_loss = _losses(model, batch, loss_fn)
    return ModeFacts(
        never, before, dropouts, redraws, is_constant, max(active, default=0.0), train_loss, eval_loss,
        _dropped_outputs(model, batch[0]), _frozen_unit(model, batch[0]), remembers,
    )  # fmt: skip


class _Dropped(TorchFunctionMode):
    """Follows what dropout gives, through operations that keep each value apart."""

    def __init__(self) -> None:
        super().__init__()
        self.shares: dict[int, tuple[float, Tensor]] = {}  # with the tensor, so that no other takes its id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        answer = func(*args, **given)
        name, source = getattr(func, "__name__", ""), args[0] if args else given.get("input")
        if not isinstance(source, Tensor) or not isinstance(answer, Tensor):
            return answer
        if name in _DROPS:
            share = args[1] if len(args) > 1 else given.get("p", 0.5)
            is_on = args[2] if len(args) > 2 else given.get("training", given.get("train", True))
            if is_on and share:
                self.shares[id(answer)] = (float(share), answer)
        elif name in _KEEP_VALUES and id(source) in self.shares:
            self.shares[id(answer)] = (self.shares[id(source)][0], answer)
        return answer


def _dropped_outputs(model: nn.Module, inputs: Any) -> float:
    """The largest share that dropout sets to zero of what the model gives, in the modes in which it trains."""
    kept = (kept_buffers(model), kept_attributes(model, numbers=True), kept_generators(), torch.no_grad())
    followed = _Dropped()
    with ExitStack() as stack:
        for one in kept:
            stack.enter_context(one)
        with followed:
            output = batches.call(model, inputs)
    found = [followed.shares.get(id(tensor), (0.0,))[0] for tensor in batches.leaves(output).values()]
    return max(found, default=0.0)


def _frozen_unit(model: nn.Module, inputs: Any) -> tuple[str, float] | None:
    """(layer, deviation of a batch over the running one, by the median channel), of the first that does not train."""
    found: list[tuple[str, float]] = []

    def at(name: str) -> Callable[..., None]:
        def hear(module: Any, args: tuple[Any, ...]) -> None:
            if not found and args and isinstance(args[0], Tensor) and args[0].dim() > 1 and len(args[0]) > 1:
                values = args[0].detach().float().transpose(0, 1).flatten(1)
                times = (values.var(1) / module.running_var.float().clamp_min(1e-30)).sqrt()
                found.append((name, float(times.median())))

        return hear

    hooks = [
        module.register_forward_pre_hook(at(name)) for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.training
        and module.running_var is not None and not _is_as_made(module)
    ]  # fmt: skip
    if not hooks:
        return None
    try:
        with evaluation(model), torch.no_grad():
            batches.call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found and math.isfinite(found[0][1]) else None


def _losses(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> tuple[float | None, float | None]:
    """(in training mode, in evaluation mode), of the same rows; None where BatchNorm makes the difference."""
    if any(isinstance(module, nn.modules.batchnorm._NormBase) for module in model.modules()):
        return None, None
    found: list[float] = []
    with suppress(*FOREIGN, DataError), evaluation(model):
        for mode in (True, False):
            model.train(mode)
            seed_generators(0)
            with torch.no_grad():
                found.append(float(loss_fn(batches.call(model, batch[0]), batch[1])))
    if len(found) < 2 or not all(map(math.isfinite, found)):
        return None, None
    return found[0], found[1]


def _is_trainable_norm(module: nn.Module) -> bool:
    is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    return is_norm and any(parameter.requires_grad for parameter in module.parameters())


def _is_as_made(module: nn.Module) -> bool:
    mean, variance = module.running_mean, module.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return False
    return not bool(mean.any()) and bool((variance == 1).all())


def _answers(model: nn.Module, inputs: Any) -> tuple[float | None, bool | None, bool]:
    """(how far two passes differ, whether all rows get the same output, whether it goes on at the same noise).

    None where outputs cannot be compared.
    """
    outputs: list[Any] = []
    with evaluation(model):
        for seed in (0, 1, 1):
            seed_generators(seed)
            with torch.no_grad():
                outputs.append(batches.map_tensors(batches.call(model, inputs), Tensor.detach))
    first, second, third = outputs
    is_plain = all(isinstance(one, Tensor) and one.is_floating_point() and one.dim() for one in outputs)
    if not is_plain or first.shape != second.shape or not bool(torch.isfinite(first).all()) or not first.numel():
        return None, None, False
    size = float(first.abs().max()) or 1.0
    redraws = float((first - second).abs().max()) / size
    goes_on = third.shape == second.shape and bool((third - second).abs().max() > _SAME * size)
    return redraws, _is_constant(first, inputs, size), goes_on


def vary(inputs: Any, size: int) -> bool | None:
    """Whether the inputs of so many samples differ; None for few samples, or inputs without an axis of samples."""
    given = [tensor for tensor in batches.leaves(inputs).values() if tensor.dim() and len(tensor) == size]
    return any(bool((tensor != tensor[:1]).any()) for tensor in given) if given and size >= _FEWEST else None


def _is_constant(outputs_B: Tensor, inputs: Any, size: float) -> bool | None:
    if not vary(inputs, len(outputs_B)):
        return None
    return bool((outputs_B - outputs_B[:1]).abs().max() <= _SAME * size)


def follows_inputs(model: nn.Module, inputs: Any) -> float | None:
    """How far the outputs change if the rows of the inputs change places, over their spread, at the same noise.

    Args:
        model: Of several outputs, the first counts.
        inputs: Of a batch; None is known of few rows, and of rows that are all the same.
    """
    leaves = batches.leaves(inputs)
    size = min((len(tensor) for tensor in leaves.values() if tensor.dim()), default=0)
    if not vary(inputs, size):
        return None
    outputs: list[Tensor] = []
    with evaluation(model):
        for given in (
            inputs,
            batches.map_tensors(inputs, lambda tensor: tensor.roll(1, 0) if tensor.dim() else tensor),
        ):
            seed_generators(0)
            with torch.no_grad():
                found = [one for one in batches.leaves(batches.call(model, given)).values() if one.is_floating_point()]
            outputs += [one.detach() for one in found[:1]]  # a step within forward makes gradients of its own
    if len(outputs) < 2 or outputs[0].shape != outputs[1].shape or not outputs[0].dim():
        return None
    spread, change = (outputs[0] - outputs[0].mean()).norm(), (outputs[0] - outputs[1]).norm()
    return float(change / spread) if bool(spread > 0) and bool(torch.isfinite(change)) else None
