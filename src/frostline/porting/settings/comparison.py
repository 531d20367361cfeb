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
    """The settings of a file beside those of a module, and what was set to make them equal.

    Attributes:
        source: The file.
        model: The module.
        shapes: As of `compare`.
        undo: Takes what puts values of the module back; None if none are to be set.
        found: What was compared last.
        done: One check for each value that was set.
    """

    source: Source
    model: nn.Module
    shapes: Mapping[str, tuple[int, ...]]
    undo: ExitStack | None = None
    found: tuple[Setting, ...] = ()
    done: tuple[Check, ...] = ()

    def by(self, plan: PortPlan) -> Compared:
        """As it is with the partners of a plan, after values were set that differ.

        Args:
            plan: The layers that it leaves open are compared as `compare` takes them.
        """
        found = compare(plan, self.source, self.model, self.shapes)
        done = set_equal(found, self.undo) if self.undo is not None else ()
        return replace(self, found=found, done=self.done + done)

    def causes(self) -> str:
        """Settings that may be why outputs differ, in words; empty if there are none."""
        return causes_of(self.found)

    def checks(self, *, has_run: bool) -> tuple[Check, ...]:
        """What the certificate lists.

        Args:
            has_run: Whether outputs of the whole network agree, which settles some of them.
        """
        return checks_of(self.found, self.done, has_run=has_run)


def compare(
    plan: PortPlan, source: Source, model: nn.Module, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Setting, ...]:
    """Compare the settings of every assigned layer, and those of the whole network.

    Args:
        plan: The assignment. Layers that are still open are compared in the order in which they are listed.
        source: The file; settings of layers are compared for networks of Keras only.
        model: The module.
        shapes: Shapes of the outputs of the file's layers that are known; channels last.
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
