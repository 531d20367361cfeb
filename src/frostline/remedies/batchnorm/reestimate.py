"""Re-estimate the running statistics of BatchNorm over a whole training set."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.arguments import check_model
from frostline.core.doors import public
from frostline.core.inputs import call_with_model
from frostline.core.layers import is_pinned
from frostline.core.records import Change
from frostline.core.restore import kept_generators, kept_modes
from frostline.remedies.batchnorm.population import Population, Replay, channel_axis
from frostline.remedies.surgery import Snapshot, grouped

if TYPE_CHECKING:
    from collections.abc import Iterable

_Norms = dict[str, nn.modules.batchnorm._BatchNorm]


@public("reestimate_batchnorm")
def reestimate_batchnorm(model: nn.Module, loader: Iterable[Any]) -> Change:
    """Give every BatchNorm the mean and variance of the whole training set, for prediction.

    One pass, weights as they are. Each BatchNorm normalises by its batch's own statistics, as in training, and what it
    is given is pooled over the pass: every value counts the same however large its batch is, variance between batches
    included, in float64; unbiased, as a running variance is. Below a batch's statistics depend on its size: use the
    training batch size. Dropout is off; momentum is left as it is; `num_batches_tracked` counts the batches of the
    pass. A BatchNorm that is used several times in one pass pools them all.

    Frozen BatchNorms are left alone: those that `frostline.freeze` holds, those whose weights are all frozen, and those
    that are in inference mode while the model trains. Within one process only: nothing is gathered from others.

    Args:
        model: The model, changed in place.
        loader: The training set, once: `(inputs, target)`, mappings, or inputs. With cached features, the loader of the
            cached data, and `split.head` as the model.

    Returns:
        The BatchNorms that were measured; the undo; those that were left alone, and why.

    Raises:
        DataError: If there are no batches, fewer than two values per channel, or values that are not finite.

    References:
        Wu, Johnson (2021), Rethinking "batch" in BatchNorm, section 3 (PreciseBN).
    """
    check_model("reestimate_batchnorm", model)
    snapshot = Snapshot(model)
    norms, notes = _to_measure(model)
    found = {name: Population() for name in norms}
    calls: dict[str, int] = dict.fromkeys(norms, 0)
    num_batches = 0
    try:
        with kept_generators(), kept_modes(model), torch.no_grad(), ExitStack() as stack:
            model.eval()
            for name, norm in norms.items():
                norm.training = True
                stack.callback(norm.register_forward_pre_hook(_listener(found, calls, name)).remove)
                stack.callback(norm.register_forward_hook(_train_again).remove)
            for inputs in Replay(model, loader):
                call_with_model(model, inputs)
                num_batches += 1
            measured = [name for name in norms if calls[name]]
            for name in measured:
                found[name].check(name)
    except Exception:
        snapshot.restore()
        raise
    for name in measured:
        _write(norms[name], found[name], num_batches)
    notes += [(name, "not called in the pass; left as it is") for name in norms if not calls[name]]
    notes += [(name, "used several times in one pass; pooled") for name in measured if calls[name] > num_batches]
    notes += [] if norms or notes else [("", "has no BatchNorm with running statistics")]
    return Change(tuple(measured), snapshot.restore, grouped(notes))


def _to_measure(model: nn.Module) -> tuple[_Norms, list[tuple[str, str]]]:
    norms: _Norms = {}
    notes: list[tuple[str, str]] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        own = list(module.parameters(recurse=False))
        if module.running_mean is None:
            notes.append((name, "keeps no running statistics"))
        elif is_pinned(module) or (own and not any(parameter.requires_grad for parameter in own)):
            notes.append((name, "frozen, left alone"))
        elif model.training and not module.training:
            notes.append((name, "in inference mode while the model trains, left alone"))
        else:
            norms[name] = module
    return norms, notes


# All BatchNorms are measured in one pass (as PreciseBN does). One pass for each, from below, with final statistics
# below it, would be exact for prediction, but costs as many passes as there are layers.
def _listener(found: dict[str, Population], calls: dict[str, int], name: str) -> Any:
    def hear(module: nn.Module, args: tuple[Any, ...]) -> None:
        values: Tensor = args[0]
        axis = channel_axis(module)
        found[name].add(values, axis)
        calls[name] += 1
        # A batch that is one value per channel has no statistics of its own; torch would refuse it.
        module.training = values.numel() // values.shape[axis] > 1

    return hear


def _train_again(module: nn.Module, *_: Any) -> None:
    module.training = True


def _write(norm: nn.modules.batchnorm._BatchNorm, population: Population, num_batches: int) -> None:
    with torch.no_grad():
        for buffer, value in ((norm.running_mean, population.mean), (norm.running_var, population.variance)):
            if buffer is not None:
                buffer.copy_(value)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.fill_(num_batches)
