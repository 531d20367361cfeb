"""Comparison of every setting that a file states with that of the module."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.core.layers import submodule
from frostline.porting.settings.pairs import of_pair
from frostline.porting.settings.setting import causes_of, checks_of, set_equal
from frostline.porting.settings.whole import of_network, of_roundings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from frostline.porting.certificate import Check
    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.readers.contract import Source
    from frostline.porting.settings.setting import Setting


@dataclass(frozen=True)
class Compared:
    """The settings of a file compared with those of a module, and the values that were set to make them equal.

    Attributes:
        source: The file.
        model: The module.
        shapes: As in `compare`.
        undo: Receives the callbacks that restore the module; None if no values are to be set.
        found: The last comparison.
        done: One check for each value that was set.
    """

    source: Source
    model: nn.Module
    shapes: Mapping[str, tuple[int, ...]]
    undo: ExitStack | None = None
    found: tuple[Setting, ...] = ()
    done: tuple[Check, ...] = ()

    def by(self, plan: PortPlan) -> Compared:
        """The comparison for the pairs of a plan; values that differ are set if `undo` is given.

        Args:
            plan: The assignment; `compare` states how open layers are compared.
        """
        found = compare(plan, self.source, self.model, self.shapes)
        done = set_equal(found, self.undo) if self.undo is not None else ()
        return replace(self, found=found, done=self.done + done)

    def causes(self) -> str:
        """Settings that may explain different outputs, as text; empty if there are none."""
        return causes_of(self.found)

    def checks(self, *, has_run: bool) -> tuple[Check, ...]:
        """The checks for the certificate.

        Args:
            has_run: Whether the outputs of the whole network agree, which excludes most differences.
        """
        return checks_of(self.found, self.done, has_run=has_run)


def compare(
    plan: PortPlan, source: Source, model: nn.Module, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Setting, ...]:
    """Compare the settings of every assigned layer, and those of the whole network.

    Args:
        plan: The assignment. Layers that are still open are compared in the order in which they are listed.
        source: The file; settings are compared for Keras networks only.
        model: The module.
        shapes: The known shapes of outputs, by layer of the file; channels last.
    """
    if source.framework == "onnx":
        return tuple(of_roundings(source.layers))
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
    parent = submodule(model, holder)
    if not isinstance(parent, nn.Sequential) or own not in parent._modules:
        return None
    entries = list(parent._modules)
    at = entries.index(own) + 1
    return parent._modules[entries[at]] if at < len(entries) else None
