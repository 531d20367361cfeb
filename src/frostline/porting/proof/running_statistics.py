"""The values that enter BatchNorm layers on real samples, compared with the running statistics in the file.

If a file has no architecture and its network cannot be run any more, the running statistics are the only trace of its
training: the mean and variance of each channel that entered each BatchNorm. If a layer before it has the weights of
another layer, the values differ. Statistics may refute a port; they neither prove it nor decide between assignments.

Legend: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.errors import DataError, PortError
from frostline.core.inputs import batch_size
from frostline.porting.certificate import STATISTICS, Check
from frostline.porting.proof.module_outputs import run_with_hooks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from frostline.porting.plan.port_plan import PortPlan

ENOUGH = 16  # samples; the means of fewer samples differ as much as the means of another layer
# Divergences as shares of the divergence by chance, and in nats. At exchanged layers they rise from below 0.03 to above
# 0.17 nats at once; with samples unlike the training data they rise slowly, up to a share of 0.9 at the last layers
# (docs/decisions.md, Porting).
_AGREES, _SMALL = 0.4, 0.05
_DIFFERS, _LARGE = 0.7, 0.1
_REFUTES, _JUMP, _NOISE = 0.5, 5, 0.02


@dataclass(frozen=True)
class Agreement:
    """The comparison at one BatchNorm layer.

    Attributes:
        layer: The name of the layer.
        divergence: The Kullback-Leibler divergence between the normal distributions of the values and of the running
            statistics, in nats: the median over channels.
        chance: The same divergence if each channel is compared with the other channels.
    """

    layer: str
    divergence: float
    chance: float

    @property
    def share(self) -> float:
        """The divergence as a share of the divergence by chance: 0 for equal distributions, 1 for chance."""
        return self.divergence / self.chance if self.chance > 0 else math.inf


def agreements(model: nn.Module, inputs: Any, plan: PortPlan) -> list[Agreement]:
    """Compare every ported BatchNorm layer, in the order in which they run.

    The comparison ends at the first layer that keeps its own weights: the values after it are not those of the source
    network.

    Args:
        model: The module with the ported weights.
        inputs: Real samples, in the form that the module takes.
        plan: The plan that was carried out.
    """
    written = {step.target.owner for step in plan.steps}
    modules = dict(model.named_modules())
    names = {module: name for name, module in modules.items()}
    kept = {_owner(name, modules) for name in plan.kept}
    found: list[Agreement] = []
    is_over = False

    def look(module: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal is_over
        name = names[module]
        is_over = is_over or name in kept
        if not is_over and name in written and _holds(module) and given and isinstance(given[0], Tensor):
            found.append(_agreement(name, module, given[0]))

    handles = [
        module.register_forward_pre_hook(look)
        for name, module in modules.items() if name in kept or _holds(module)
    ]  # fmt: skip
    run_with_hooks(model, inputs, handles)
    return found


def compare_statistics(model: nn.Module, inputs: Any, plan: PortPlan) -> tuple[Check, ...]:
    """One check for each BatchNorm layer.

    Args:
        model: The module with the ported weights.
        inputs: At least 16 real samples, in the form that the module takes.
        plan: The plan that was carried out.

    Raises:
        DataError: If there are too few samples, or no running statistics.
        PortError: If the divergence rises abruptly at a layer.
    """
    count = batch_size(inputs)
    found = agreements(model, inputs, plan) if count >= ENOUGH else []
    if not found:
        raise DataError(
            what="Samples without outputs are compared with the running statistics of BatchNorm layers.",
            where="port(golden=...)", received=f"{count} samples, {len(found)} layers with statistics of the file",
            do=f"pass at least {ENOUGH} real samples, prepared as in training; for a network without BatchNorm also "
            "the outputs of the source network for them.",
        )  # fmt: skip
    for index, one in enumerate(found):
        _check_jump(one, found[:index], plan)
    return tuple(_check(one, count) for one in found)


def _check_jump(one: Agreement, earlier: Sequence[Agreement], plan: PortPlan) -> None:
    usual = max([_NOISE, *(other.divergence for other in earlier)])
    if one.share > _REFUTES and one.divergence > _JUMP * usual:
        before = f" and after {earlier[-1].layer!r}" if earlier else ""
        raise PortError(
            what=f"The values that enter {one.layer!r} do not match its running statistics.",
            where=plan.path,
            received=f"a divergence of {one.divergence:.2g} nats per channel, and of {one.chance:.2g} if channels are "
            "paired at random" + (f"; up to {earlier[-1].layer!r} by {usual:.2g} at most" if earlier else ""),
            do=f"check the layers before {one.layer!r}{before}: exchanged layers, padding, activation"
            + ("." if earlier else ", and the preparation of the samples: range, mean, order of colours."),
        )  # fmt: skip


def _check(one: Agreement, count: int) -> Check:
    if one.share <= _AGREES and one.divergence <= _SMALL:
        return Check(one.layer, STATISTICS, "agrees", f"values on {count} samples are distributed as the file states")
    if one.share > _DIFFERS and one.divergence > _LARGE:
        text = f"values on {count} samples are not distributed as the file states: the samples are unlike the "
        return Check(one.layer, STATISTICS, "differs", f"{text}training data, or a layer before it differs")
    return Check(one.layer, STATISTICS, "unknown", f"{count} samples are not conclusive")


def _owner(unit: str, modules: Mapping[str, nn.Module]) -> str:
    """The module that a unit belongs to; the unit is a layer, one layer of a stack (`lstm:l0`), or a parameter."""
    layer = unit.rpartition(":")[0] or unit
    return layer if layer in modules else layer.rpartition(".")[0]


def _holds(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _agreement(name: str, module: nn.Module, values: Tensor) -> Agreement:
    """Kullback-Leibler divergences between normal distributions, for each pair of channels."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    eps = module.eps
    assert isinstance(eps, (int, float))
    mean, variance = values.double().mean(axes), values.double().var(axes, correction=0) + eps
    assert isinstance(module.running_mean, Tensor)
    assert isinstance(module.running_var, Tensor)
    held_mean, held_variance = module.running_mean.double(), module.running_var.double() + eps
    ratio = variance[:, None] / held_variance[None]
    table = 0.5 * (ratio - 1 - ratio.log() + (mean[:, None] - held_mean[None]) ** 2 / held_variance[None])
    others = table[~torch.eye(len(mean), dtype=torch.bool, device=table.device)]
    chance = float(others.median()) if others.numel() else 0.0
    return Agreement(name, float(table.diagonal().median()), chance)
