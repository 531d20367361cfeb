"""How a training is wired: parts of the network that never move, and samples that change each other's outputs.

Legend: B samples of a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from frostline.core import inputs as batches
from frostline.core.restore import (
    kept_buffers,
    kept_generators,
    kept_gradients,
    kept_modes,
    seed_generators,
)
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import NO_GRADIENT, NO_RATE, NO_SLOPE, UNHELD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch
    from frostline.diagnosis.experiments.trial import Patient

_MOVED = 1e-3  # of the largest answer
_MOST_MOVED = 8  # parts whose values are changed, one after the other
_FACTOR, _SHIFT, _SAME_LOSS = 1.5, 0.05, 1e-5
_FEWEST_ROWS = 4
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # of whose parts some may be meant for later


def idle_parts(
    patient: Patient, start: dict[str, Tensor], data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[tuple[str, str], ...]:
    """(module, why) of parts that ask for gradients, and have not moved while the others trained.

    A gradient of 0 counts where it is that of all parameters of a module, in two batches.

    Args:
        patient: After training.
        start: Its trainable parameters before, by name.
        data: One backward pass of the first batch shows which parts get a gradient at all.
        loss_fn: callable(output, target) -> scalar.
    """
    parameters = dict(patient.model.named_parameters())
    still = [name for name, before in start.items() if torch.equal(before, parameters[name].detach())]
    if not still or len(still) == len(start):
        return ()  # all stand still where every step was left out
    rates = {id(p): float(group["lr"]) for group in patient.optimizer.param_groups for p in group["params"]}
    passes = [_gradients(patient.model, batch, loss_fn) for batch in (data[0], data[-1])]
    moving = {_module_of(name) for name in start if name not in set(still)}
    found: dict[str, str] = {}
    for name in still:
        if id(parameters[name]) not in rates:
            why = UNHELD
        elif rates[id(parameters[name])] == 0:
            why = NO_RATE
        elif name not in passes[0]:
            why = NO_GRADIENT
        elif _module_of(name) not in moving and not any(bool(one[name].any()) for one in passes if name in one):
            why = NO_SLOPE
        else:
            continue
        found.setdefault(_module_of(name) or name, why)
    return tuple(found.items())


def _module_of(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def cut_off(
    model: nn.Module, idle: tuple[tuple[str, str], ...], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Of the parts without a gradient: those on whose values the loss depends all the same, and what is not used.

    The second are parts that are dropped, the third those whose output is one of the model's that the loss leaves out.

    A part is dropped if it runs, and what it gives reaches the output of no module around it: a pooler that stands in
    what a backbone gives is not.

    Args:
        model: After training; left as it is.
        idle: What `idle_parts` gave.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    named = dict(model.named_modules())
    parts = [name for name, why in idle if why == NO_GRADIENT and name in named][:_MOST_MOVED]
    before = _pass(model, batch, loss_fn) if parts else _Pass(0.0, {})
    cut: list[str] = []
    dropped: list[str] = []
    unheard: list[str] = []
    for name in parts:
        own = [parameter for parameter in named[name].parameters(recurse=False) if parameter.requires_grad]
        kept = [parameter.detach().clone() for parameter in own]
        try:
            with torch.no_grad():
                for parameter in own:
                    parameter.mul_(_FACTOR).add_(_SHIFT)
            after = _pass(model, batch, loss_fn)
            if not math.isclose(after.loss, before.loss, rel_tol=_SAME_LOSS):
                cut.append(name)
            elif name and after.is_moved(before, ""):
                unheard.append(name)
            elif (
                name and after.is_moved(before, name) and not any(after.is_moved(before, one) for one in _around(name))
            ):
                dropped.append(name)
        finally:
            with torch.no_grad():
                for parameter, values in zip(own, kept, strict=True):
                    parameter.copy_(values)
    return tuple(cut), tuple(dropped), tuple(unheard)


def unused_twins(model: nn.Module, idle: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """(layer without a gradient, layer beside it) of those beside which one of the same kind and sizes trains.

    Args:
        model: After training.
        idle: What `idle_parts` gave.
    """
    named = dict(model.named_modules())
    still = {name for name, _ in idle}
    found: list[tuple[str, str]] = []
    for name, why in idle:
        around = name.rpartition(".")[0]
        if why != NO_GRADIENT or name not in named or isinstance(named[around], _LISTS):
            continue
        own = named[name]
        twins = [
            other for other, module in named.items()
            if other not in still and other and other.rpartition(".")[0] == around and type(module) is type(own)
            and [p.shape for p in module.parameters()] == [p.shape for p in own.parameters()]
            and all(p.requires_grad for p in module.parameters())
        ]  # fmt: skip
        found += [(name, twin) for twin in twins[:1]]
    return tuple(found)


def past_all_others(
    patient: Patient, idle: tuple[tuple[str, str], ...], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[str, ...]:
    """Layers that the optimizer does not hold, and that reach the loss past all layers which it holds.

    A backbone that is left out on purpose reaches it through a head that trains; a second head or critic does not.
    Nothing is said where most layers are left out: of those, some are meant to stay as they are.

    Args:
        patient: After training; left as it is.
        idle: What `idle_parts` gave.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    left_out = [name for name, why in idle if why == UNHELD]
    held = {id(p) for group in patient.optimizer.param_groups for p in group["params"]}
    trained = [
        module for module in patient.model.modules() if any(id(p) in held for p in module.parameters(recurse=False))
    ]  # fmt: skip
    if not left_out or len(left_out) > len(trained):
        return ()
    hooks = [module.register_forward_hook(_detached) for module in trained]
    try:
        reached = _gradients(patient.model, batch, loss_fn)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(name for name in left_out if any(_module_of(one) == name for one in reached))


def _detached(_: nn.Module, __: Any, output: Any) -> Any:
    return batches.map_tensors(output, Tensor.detach)


@dataclass(frozen=True)
class _Pass:
    """The loss of one pass in evaluation mode, and what every module gave."""

    loss: float
    outputs: dict[str, list[Tensor]]

    def is_moved(self, other: _Pass, name: str) -> bool:
        """Whether a module gave other values than in the other pass."""
        own, others = self.outputs.get(name, []), other.outputs.get(name, [])
        return len(own) != len(others) or not all(map(torch.equal, own, others))


def _around(name: str) -> list[str]:
    """Names of the modules that hold this one; the model itself is ""."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts))]


def _pass(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> _Pass:
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hear(_: nn.Module, __: Any, output: Any) -> None:
            outputs.setdefault(name, []).extend(one.detach().clone() for one in batches.leaves(output).values())

        return hear

    hooks = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()]
    try:
        with evaluation(model), torch.no_grad():
            return _Pass(float(loss_fn(batches.call(model, batch[0]), batch[1])), outputs)
    finally:
        for hook in hooks:
            hook.remove()


def zero_walls(patient: Patient, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> tuple[str, ...]:
    """Layers whose weights are all zero and do not train, and before which parts that train get a gradient of 0.

    Each is given small random weights for one backward pass: parts that get a gradient then have none because of it.

    Args:
        patient: After training; left as it is.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    trained = {id(p) for group in patient.optimizer.param_groups if float(group["lr"]) for p in group["params"]}
    walls: dict[str, nn.Parameter] = {}
    for name, module in patient.model.named_modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.dim() < 2 or is_lazy(weight) or bool(weight.any()):
            continue
        if not weight.requires_grad or id(weight) not in trained:
            walls[name] = weight
    before = _reached(patient, batch, loss_fn) if walls else set[str]()
    found: list[str] = []
    for name, weight in list(walls.items())[:_MOST_MOVED]:
        with torch.no_grad(), kept_generators():
            seed_generators(0)
            weight.normal_(std=weight[0].numel() ** -0.5)
        try:
            if _reached(patient, batch, loss_fn) - before - {f"{name}.weight"}:
                found.append(name)
        finally:
            with torch.no_grad():
                weight.zero_()
    return tuple(found)


def _reached(patient: Patient, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> set[str]:
    """Names of the parameters that get a gradient which is not 0."""
    return {name for name, value in _gradients(patient.model, batch, loss_fn).items() if bool(value.any())}


def stands_still(
    patient: Patient, start: dict[str, Tensor], batch: Batch, loss_fn: Callable[[Any, Any], Tensor]
) -> tuple[bool | None, float | None]:
    """Whether no trainable parameter has moved, to the bit, and the gradient norm of a plain backward pass.

    Nothing is known where steps may have been left out for another reason.

    Args:
        patient: After training.
        start: Its trainable parameters before, by name.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    parameters = dict(patient.model.named_parameters())
    if not start or patient.scaler is not None or patient.clip is not None:
        return None, None  # a scaler leaves out steps that are not finite, as does a clip of ours
    gradients = _gradients(patient.model, batch, loss_fn)
    norm = float(torch.stack([gradient.float().norm() for gradient in gradients.values()]).norm()) if gradients else 0.0
    if not all(torch.equal(before, parameters[name].detach()) for name, before in start.items()):
        return False, norm if math.isfinite(norm) else None
    return (True, norm) if math.isfinite(norm) else (None, None)


def _gradients(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> dict[str, Tensor]:
    """Of a backward pass, by name of the parameter; those that get none are left out."""
    inputs, target = batch
    with kept_modes(model), kept_buffers(model), kept_generators(), kept_gradients(model), torch.enable_grad():
        seed_generators(0)
        loss = loss_fn(batches.call(model, inputs), target)
        if not loss.requires_grad:
            return {}
        loss.backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def mixes_samples(model: nn.Module, inputs: Any, target: Any) -> bool | None:
    """Whether the output of one sample changes with the others, in eval mode; None if that cannot be measured.

    Args:
        model: Its outputs have shape (B, C).
        inputs: A tensor of B samples.
        target: (B,) or (B, C).
    """
    if not isinstance(inputs, Tensor) or not isinstance(target, Tensor) or not inputs.dim() or len(inputs) < 2:
        return None
    if inputs.dim() > 2 and inputs.shape[0] == inputs.shape[1]:
        return None  # steps may come first
    others = inputs.clone()
    others[0] = inputs[-1]  # what runs over samples as if they were steps hands it on to the later ones
    answers: list[Any] = []
    with evaluation(model):
        for given in (inputs, inputs, others):
            seed_generators(0)
            with torch.no_grad():
                answers.append(batches.call(model, given))
    first, again, second = answers
    if not isinstance(first, Tensor) or first.dim() != 2 or target.dim() > 2 or len(target) != len(first):
        return None
    if len(first) != len(inputs) or not first.is_floating_point() or not bool(torch.isfinite(first).all()):
        return None
    if not torch.equal(first, again):
        return None  # it remembers, or draws from a generator of its own
    return bool((first - second)[1:].abs().max() > _MOVED * first.abs().max())


def climb_of_step(patient: Patient, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> float | None:
    """The cosine of what one step changes with the gradient of its batch; None where nothing moves.

    Args:
        patient: A copy, which takes the step, without weight decay: that goes its own way.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    if patient.optimizer.state or patient.scaler is not None:
        return None  # a momentum of before goes its own way
    for group in patient.optimizer.param_groups:
        group.update({"weight_decay": 0.0} if "weight_decay" in group else {})
    parameters = [one for one in dict.fromkeys(patient.parameters) if one.requires_grad]
    before = [one.detach().clone() for one in parameters]
    with kept_generators(), torch.enable_grad():
        seed_generators(0)
        patient.optimizer.zero_grad()
        loss_fn(batches.call(patient.model, batch[0]), batch[1]).backward()
        slopes = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in parameters]
        patient.optimizer.step()
    moved = torch.cat([(one.detach() - old).flatten() for one, old in zip(parameters, before, strict=True)]).double()
    slope = torch.cat([one.flatten() for one in slopes]).double()
    size = float(moved.norm() * slope.norm())
    return float(moved @ slope) / size if 0 < size < math.inf else None


def depends_on_place(model: nn.Module, inputs: Any) -> bool | None:
    """Whether a row gets another output where all rows of the batch are in another order, in eval mode.

    None if that cannot be measured: outputs without an axis of rows, or that differ from one pass to the next.

    Args:
        model: Left as it is.
        inputs: Of a batch; all its tensors have an axis of rows.
    """
    named, size = batches.leaves(inputs), batches.batch_size(inputs)
    if size < _FEWEST_ROWS or any(not one.dim() or len(one) != size for one in named.values()):
        return None
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    others = batches.map_tensors(inputs, lambda one: one[order.to(one.device)])
    answers: list[list[Tensor]] = []
    for one, seed in ((inputs, 0), (inputs, 1), (others, 0)):  # each from the same state: some models keep one
        with evaluation(model, seed=seed), torch.no_grad():
            made = batches.leaves(batches.call(model, one)).values()
            answers.append([values for values in made if values.is_floating_point() and values.dim()])
    first, again, moved = answers
    if not first or any(len(one) != size or not bool(torch.isfinite(one).all()) for one in (*first, *moved)):
        return None
    if not all(map(torch.equal, first, again)):
        return None
    pairs = zip(first, moved, strict=True)
    return any(bool((one[order] - other).abs().max() > _MOVED * one.abs().max()) for one, other in pairs)
