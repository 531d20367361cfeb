"""Facts about a run that are not measured layer by layer: the input, the optimizer, what could not be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.diagnosis.rules.input_scale import oddness
from frostline.diagnosis.rules.records import InputFacts, Layer, OptimizerFacts, StepRecord
from frostline.remedies.scaling import standardises_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from torch.optim import Optimizer

    from frostline.diagnosis.monitor.layers import Found
    from frostline.diagnosis.probes.zero_starts import ZeroStarts

_MOST_VALUES = 2**20  # of inputs that are kept: 4 MB
_SCALE_FREE = ("adam", "rmsprop", "adagrad", "adadelta", "rprop", "lion", "lamb", "muon", "adafactor", "sign")


def layers_that_ran(
    found: Sequence[Found], order: dict[str, int], heads: Set[str] = frozenset(), zeros: ZeroStarts | None = None
) -> tuple[Layer, ...]:  # fmt: skip
    """The layers in the order in which they ran; those that never did come last.

    Args:
        found: All layers.
        order: In which they ran, by name.
        heads: Those that are known to give a part of the model's output; the last one does in any case.
        zeros: What started at zero; None where nothing did.
    """
    starts, held = (zeros.layers, zeros.held) if zeros is not None else (frozenset[str](), frozenset[str]())
    ordered = sorted(
        (entry.layer for entry in found), key=lambda layer: order.get(layer.name, len(order) + layer.order)
    )
    weighted = [layer.name for layer in ordered if layer.has_weights and layer.name in order]
    return tuple(
        replace(
            layer, order=at, is_output=layer.name in weighted and layer.name in {weighted[-1], *heads},
            starts_at_zero=layer.name in starts, is_held=layer.name in held,
        )
        for at, layer in enumerate(ordered)
    )  # fmt: skip


def facts_of_optimizer(optimizer: Optimizer | None) -> OptimizerFacts:
    """How an optimizer moves the weights."""
    if optimizer is None:
        return OptimizerFacts()
    groups: list[dict[str, Any]] = optimizer.param_groups
    rates = [float(group["lr"]) for group in groups if group.get("lr") is not None]
    return OptimizerFacts(
        lr=max(rates, default=None),
        momentum=max((float(group["momentum"]) for group in groups if "momentum" in group), default=None),
        is_scheduled=any("initial_lr" in group for group in groups),
        is_scale_free=any(part in type(optimizer).__name__.lower() for part in _SCALE_FREE),
        weight_decay=max((float(group.get("weight_decay") or 0.0) for group in groups), default=0.0),
    )


class SeenInputs:
    """The inputs of the first sampled steps together: one batch may be unlike the others, such as windows in an order.

    Args:
        found: The layers.
        model: Whose inputs they are.
    """

    def __init__(self, found: Sequence[Found], model: nn.Module) -> None:
        self._found, self._model, self._given = found, model, list[Tensor]()

    def add(self, given: Tensor | None) -> None:
        """Keep those of a batch, as far as its rows are like those before, and not too many.

        Args:
            given: None where there is no float input.
        """
        if given is None or given.dim() < 2 or not given.is_floating_point():
            return
        count, kept = sum(one.numel() for one in self._given), self._given
        if not kept or (given.shape[1:] == kept[0].shape[1:] and count + given.numel() <= _MOST_VALUES):
            kept.append(given.detach().clone())

    def facts(self, order: dict[str, int]) -> InputFacts | None:
        """Their scale; None where none was kept.

        Args:
            order: In which the layers ran, by name.
        """
        several = [self._given[0], torch.cat(self._given)] if self._given else []  # a single batch may be far out
        found = [facts_of_input(one, self._found, order, model=self._model) for one in several]
        return min((one for one in found if one is not None), key=lambda one: oddness(one)[0], default=None)


def facts_of_input(
    given: Tensor,
    found: Sequence[Found],
    order: dict[str, int],
    *,
    outlier: float | None = None,
    model: nn.Module | None = None,
) -> InputFacts | None:
    """The scale of a float input; of images by channel, of sequences and tables by feature.

    Args:
        given: The input.
        found: The layers.
        order: In which they ran, by name.
        outlier: The largest value over the usual one, if it is known; else it is that of this input.
        model: One that scales its inputs itself is as good as one whose first layer normalises them.
    """
    if not given.is_floating_point() or given.dim() < 2 or len(given) < 2:
        return None
    values = given.detach().float()
    features = values.movedim(1, -1).flatten(0, -2) if values.dim() == 4 else values.flatten(0, -2)
    finite = torch.where(torch.isfinite(features), features, torch.zeros_like(features))
    deviation, mean = torch.std_mean(finite, dim=0, correction=0)
    size = finite.square().mean(dim=0).sqrt()
    varies = deviation > 1e-6 * (size.max() + 1e-12)
    kinds = {entry.layer.name: entry.layer.kind for entry in found}
    first = min(order, key=lambda name: order[name], default="")
    if not bool(varies.any()):
        return None
    absolute = finite.abs().flatten()
    if outlier is None:
        tail = absolute[:: -(-absolute.numel() // 2**20)].quantile(0.99)
        outlier = float(absolute.max() / tail.clamp_min(1e-12))
    usual = deviation[varies].median()  # a pixel of the border hardly varies, and hardly matters
    return InputFacts(
        mean=float(finite.mean()), deviation=float(finite.std(correction=0)), largest=float(absolute.max()),
        widest=float(size.max()), offset=float((mean.abs() / deviation.clamp_min(usual))[varies].max()),
        unevenness=float(deviation[varies].max() / usual), outlier=outlier,
        row_size=float(finite.square().sum(1).mean().sqrt()),
        is_normalised=kinds.get(first) == "norm" or (model is not None and standardises_inputs(model)),
    )  # fmt: skip


def what_is_missing(records: Sequence[StepRecord], *, has_optimizer: bool, expects_outputs: bool) -> tuple[str, ...]:
    """What a loop has to do differently for the rules to see anything."""
    if not records:
        if has_optimizer:
            return ("no step was seen: the optimizer's step() was not called in the block.",)
        return ("no step was seen: without an optimizer, call monitor.step(loss) between backward() and zero_grad().",)
    missing: list[str] = []
    if all(sample.gradient_norm is None for record in records for sample in record.layers):
        cause = "the optimizer's step" if has_optimizer else "monitor.step(loss)"
        missing.append(f"no gradients were seen: backward() did not run, or zero_grad() came before {cause}.")
    if expects_outputs and all(sample.mean is None for record in records for sample in record.layers):
        missing.append("no outputs were seen: the layers did not run in the block, or not with gradients.")
    return tuple(missing)
