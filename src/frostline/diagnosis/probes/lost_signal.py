"""Where in a model the targets are lost: what a linear model reads of them before and behind each layer.

Layers with random weights keep most of what they get. Where the targets can be read of the inputs, but behind some
layer of nothing that comes after it, this layer throws them away before a single step: an average where a sum is meant,
a norm over the wrong axis, a mask the other way round.

Legend: N rows, D features, C columns of known answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.activations import is_activation
from frostline.diagnosis.probes.evaluation_pass import evaluation, weights_of
from frostline.diagnosis.probes.linear_share import (
    chosen_rows,
    features,
    joined_rows,
    known_answers,
    linear_share,
    readable_inputs,
)
from frostline.diagnosis.rules.wiring_records import SignalFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frostline.diagnosis.experiments.batches import Batch

_FEWEST_FEATURES = 16  # of a layer: fewer random ones hold little of anything
_READ = 0.3  # share of what the constant-prediction baseline leaves, that a linear model reads of the inputs
_LOST, _NOTHING = 0.2, 0.1  # of that, and at all: below both it is lost


def facts_of_signal(model: nn.Module, start: dict[str, Tensor], data: Sequence[Batch]) -> SignalFacts | None:
    """None where the targets are not one class or number for each row, or a linear model reads nothing of them.

    Args:
        model: Runs in evaluation mode with its weights of before the training; left as it is.
        start: These weights, by name.
        data: Batches, of which the first rows are used.
    """
    chosen = chosen_rows(data)
    known_NC = known_answers(chosen)
    if known_NC is None:
        return None
    given = readable_inputs(chosen)
    if given is None or (read := linear_share(given, known_NC)) < _READ:
        return None
    points = [("the inputs", read)]
    with weights_of(model, start), evaluation(model):
        passed = _passed(model, [inputs for inputs, _ in chosen])
    points += [
        (place, linear_share(values, known_NC)) for place, values in passed if values.shape[1] >= _FEWEST_FEATURES
    ]
    limit = max(_NOTHING, _LOST * read)
    last = max(at for at, (_, found) in enumerate(points) if found >= limit)
    if last + 1 == len(points) or points[last + 1][1] >= min(_NOTHING, _LOST * read) or points[last][1] < _READ:
        return SignalFacts(read)
    if points[last + 1][0] in _judged_elsewhere(model):
        return SignalFacts(read)
    return SignalFacts(read, *points[last], *points[last + 1])


def _judged_elsewhere(model: nn.Module) -> set[str]:
    """Outputs of layers that lose targets by their weights alone, or by units that are dead or saturated."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    layers = [(name, own) for name, own in model.named_modules() if isinstance(own, kinds) or is_activation(own)]
    return {f"the output of {_named(name, own)}" for name, own in layers}


def _passed(model: nn.Module, inputs: Sequence[Any]) -> list[tuple[str, Tensor]]:
    """(place, values_ND) of what layers get and give, in the order in which it comes into being; each of it once."""
    found: dict[str, list[Tensor]] = {}
    for given in inputs:
        for place, tensor in _layer_outputs(model, given):
            found.setdefault(place, []).append(features(tensor))
    whole = [(place, joined_rows(parts)) for place, parts in found.items() if len(parts) == len(inputs)]
    return [(place, values) for place, values in whole if values is not None]


def _layer_outputs(model: nn.Module, inputs: Any) -> list[tuple[str, Tensor]]:
    size, seen, found = batches.batch_size(inputs), list(batches.leaves(inputs).values()), dict[str, Tensor]()

    def keep(place: str, value: Any) -> None:
        tensor = next((one for one in batches.leaves(value).values() if one.is_floating_point()), None)
        if tensor is None or tensor.dim() < 2 or any(tensor is one for one in seen):
            return
        seen.append(tensor)
        axis = 0 if len(tensor) == size else 1 if tensor.dim() > 2 and tensor.shape[1] == size else None
        if axis is not None:
            found[place] = tensor.transpose(0, axis)

    def before(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: keep(f"the input of {_named(name, module)}", (*args, *kwargs.values()))

    def after(name: str) -> Callable[..., None]:
        return lambda module, _, output: keep(f"the output of {_named(name, module)}", output)

    hooks = [
        hook for name, module in model.named_modules() for hook in
        (module.register_forward_pre_hook(before(name), with_kwargs=True), module.register_forward_hook(after(name)))
    ]  # fmt: skip
    try:
        with torch.no_grad():
            batches.call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.items())


def _named(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else "the model"
