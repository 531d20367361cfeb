"""Comparison of every setting that a file states with that of the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.porting.settings.pairs import of_pair
from frostline.porting.settings.whole import of_network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.readers.contract import Source
    from frostline.porting.settings.setting import Setting


def compare(
    plan: PortPlan, source: Source, model: nn.Module, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Setting, ...]:
    """Compare the settings of every assigned layer, and those of the whole network.

    Args:
        plan: The assignment. Layers that are still open are compared in the order in which they are listed.
        source: The file; settings are compared for networks of Keras only.
        model: The module.
        shapes: Shapes of the outputs of the file's layers that are known; channels last.
    """
    if source.framework != "keras" or not source.layers:
        return ()
    layers = {layer.name: layer for layer in source.layers}
    open_steps = [step for one in plan.opened for pair in zip(one.sources, one.targets, strict=False)
                  for step in one.steps.get(pair, ())[:1]]  # fmt: skip
    found: list[Setting] = []
    for step in (*plan.steps, *open_steps):
        layer = step.source.layer
        before = layers.get(layer.inputs[0]) if layer is not None and layer.inputs else None
        shape = shapes.get(before.name) if before is not None else None
        size = shape[1:-1] if shape is not None else None
        found += of_pair(step, before, size, _follower(model, step.target.owner))
    return (*found, *of_network(source.layers, model))


def _follower(model: nn.Module, name: str) -> nn.Module | None:
    """The next entry of the `Sequential` that contains a layer."""
    holder, _, own = name.rpartition(".")
    parent = model.get_submodule(holder)
    if not isinstance(parent, nn.Sequential) or own not in parent._modules:
        return None
    entries = list(parent._modules)
    at = entries.index(own) + 1
    return parent._modules[entries[at]] if at < len(entries) else None
