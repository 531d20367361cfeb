"""ONNX files with BatchNorm folded into convolutions, for a module that has both: its norms become identities.

The plan joins each norm of the module to the convolution before it, so that the convolution of the file fills both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from frostline.core.errors import PortError
from frostline.porting.graphs.target_graph import Flow
from frostline.porting.layouts.folded import NORM
from frostline.porting.units.unit import full_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.porting.units.unit import SourceUnit, TargetUnit


def is_folded(units: Sequence[SourceUnit], targets: Sequence[TargetUnit]) -> bool:
    """Whether an ONNX file has no norms although the module has norms with running statistics."""
    has_norm = any(isinstance(target.module, nn.modules.batchnorm._BatchNorm) for target in targets)
    return has_norm and all(unit.framework == "onnx" and "var" not in unit.leaves for unit in units)


def joined(targets: Sequence[TargetUnit], flow: Flow, model: nn.Module) -> tuple[tuple[TargetUnit, ...], Flow]:
    """The units of the module with each norm joined to the layer before it, and the flow between them.

    Raises:
        PortError: If the module is in training mode: a norm that is an identity cannot be trained.
    """
    by_name = {target.name: target for target in targets}
    owner: dict[str, str] = {}
    for target in targets:
        before = flow.edges.get(target.name, set())
        if isinstance(target.module, nn.modules.batchnorm._BatchNorm) and len(before) == 1:
            (owner[target.name],) = before
    if model.training:
        raise PortError(
            what="BatchNorm was folded into the convolutions of the file, and cannot be separated again.",
            where=f"port(model), {next(iter(owner), 'a norm')}", received="a module in training mode, with BatchNorm",
            do="for prediction call model.eval() first: the norms become identities. For training use a file that "
            "stores the norms, or freeze them: frostline.freeze(model).",
        )  # fmt: skip
    made = tuple(
        _with(target, [by_name[name] for name, other in owner.items() if other == target.name])
        for target in targets
        if target.name not in owner
    )
    edges = {
        name: {owner.get(other, other) for other in before} for name, before in flow.edges.items() if name not in owner
    }
    return made, Flow(edges, flow.flattened, flow.idle - owner.keys())


def note(targets: Sequence[TargetUnit]) -> str:
    """A note about the norms, for the certificate."""
    norms = sum(target.norm is not None for target in targets)
    return f"BatchNorm was folded into convolutions of the file: {norms} norms of the module become identities"


def _with(target: TargetUnit, norms: list[TargetUnit]) -> TargetUnit:
    if len(norms) != 1 or not isinstance(target.module, nn.modules.conv._ConvNd):
        return target
    (norm,) = norms
    assert isinstance(norm.module, nn.modules.batchnorm._BatchNorm)
    tensors = {**target.tensors, **{f"{NORM}{own}": tensor for own, tensor in norm.tensors.items()}}
    names = {f"{NORM}{own}": full_name(norm, own) for own in norm.tensors}
    return replace(target, tensors=tensors, names={**target.names, **names}, norm=norm.module)
