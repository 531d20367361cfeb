"""Units: the tensors of one layer, of the file or of the module. Whole units are assigned to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.units.weight_norms import Norm, norms_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor

RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


@dataclass(frozen=True)
class SourceUnit:
    """The tensors of one layer of the file.

    Attributes:
        name: The name of the layer, as in `SourceTensor.unit`.
        framework: As in `Source.framework`.
        leaves: Its tensors by leaf; by full name if the leaf is unknown.
        layer: The layer in the architecture; None if the file contains no architecture.
        parts: For a joined unit, the original units by role (`query`); its leaves are theirs (`query/kernel`).
        packed: For one projection in a packed matrix, its place in the packed layer.
        along_second: The same layer, if the layers of its stack may also lie along the second axis.
    """

    name: str
    framework: str
    leaves: Mapping[str, SourceTensor]
    layer: SourceLayer | None = None
    parts: Mapping[str, SourceUnit] = field(default_factory=dict[str, "SourceUnit"], repr=False)
    packed: Packed | None = field(default=None, repr=False)
    along_second: SourceUnit | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """The class of the layer in its framework; empty if unknown."""
        return self.layer.kind if self.layer else ""

    def setting(self, name: str, default: Any = None) -> Any:
        """One setting of the layer; the default if the file does not contain it."""
        return self.layer.config.get(name, default) if self.layer else default

    def __str__(self) -> str:
        shapes = ", ".join(f"{leaf} {tuple(tensor.shape)}" for leaf, tensor in self.leaves.items())
        return f"{self.name} ({shapes})"


@dataclass(frozen=True)
class Packed:
    """The place of a unit in a layer of the file with several projections in one matrix.

    Attributes:
        whole: The packed layer.
        roles: The projections in the layer (`query`, `key`, `value`), in order.
        sizes: The number of outputs of each projection.
        at: The index of the unit among the projections.
        axis: The axis of the outputs in the matrix.
    """

    whole: SourceUnit
    roles: tuple[str, ...]
    sizes: tuple[int, ...]
    at: int
    axis: int


@dataclass(frozen=True)
class TargetUnit:
    """The tensors of one layer of the module.

    Attributes:
        name: The qualified name of the layer. One direction of a recurrent layer has a suffix (`rnn:l0_reverse`); a
            parameter outside of known layers has its own name.
        module: The layer.
        tensors: Parameters and buffers by their name in the layer.
        owner: The qualified name of the layer.
        names: Names in the state dict, for tensors whose name is not that of the layer and their own.
        norm: A BatchNorm that belongs to the unit because the file contains it folded (see `layouts.folded`).
        norms: The weight norm or spectral norm of each tensor that has one.
    """

    name: str
    module: nn.Module
    tensors: Mapping[str, Tensor] = field(repr=False)
    owner: str
    names: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    norm: nn.modules.batchnorm._BatchNorm | None = None
    norms: Mapping[str, Norm] = field(default_factory=dict[str, Norm], repr=False)

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in self.tensors.items())
        return f"{self.name} ({type(self.module).__name__}: {shapes})"


def source_units(source: Source) -> tuple[SourceUnit, ...]:
    """The units of a file, in the order of its tensors."""
    layers = {layer.name: layer for layer in source.layers}
    grouped: dict[str, dict[str, SourceTensor]] = {}
    for tensor in source.tensors:
        unit = grouped.setdefault(tensor.unit, {})
        unit[tensor.leaf if tensor.leaf and tensor.leaf not in unit else tensor.name] = tensor
    return tuple(SourceUnit(name, source.framework, leaves, layers.get(name)) for name, leaves in grouped.items())


def target_units(model: nn.Module, *, is_packed: bool = False) -> tuple[TargetUnit, ...]:
    """The units of a module, in the order of registration; a shared layer is one unit, with its first name.

    Args:
        model: The module.
        is_packed: Whether the two matrices of an `nn.MultiheadAttention` are separate units, for files in which query,
            key and value are one linear layer.
    """
    units: list[TargetUnit] = []
    taken: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in taken:
            continue
        if is_packed and isinstance(module, nn.MultiheadAttention) and "in_proj_weight" in persistent(module):
            units.append(_packed(name, module))
        else:
            units += _units_of(name, module, taken)
    return tuple(units)


def persistent(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers of a module by name, without those of its children."""
    tensors: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    for name, own in module.named_buffers(recurse=False):
        if name not in module._non_persistent_buffers_set:
            tensors[name] = own
    return tensors


def _packed(name: str, module: nn.MultiheadAttention) -> TargetUnit:
    """The packed projection of query, key and value, as a linear layer."""
    own_tensors = persistent(module)
    linear = nn.Linear(module.embed_dim, 3 * module.embed_dim, "in_proj_bias" in own_tensors, device="meta")
    tensors = {own: own_tensors[f"in_proj_{own}"] for own in ("weight", "bias") if f"in_proj_{own}" in own_tensors}
    start = f"{name}." if name else ""
    return TargetUnit(f"{start}in_proj", linear, tensors, name, {own: f"{start}in_proj_{own}" for own in tensors})


# `get_submodule("to")` gives the method of a module that has a layer called `to`; names are looked up in the table of
# modules.
def _units_of(name: str, module: nn.Module, taken: set[int]) -> Iterator[TargetUnit]:
    norms = norms_of(module) if isinstance(module, LAYERS) else {}
    if norms:
        if parametrize.is_parametrized(module):
            taken.update(id(part) for part in module.parametrizations.modules())  # pyright: ignore[reportAttributeAccessIssue]
        tensors = persistent(module)
        names: dict[str, str] = {}
        for norm in norms.values():
            tensors |= norm.tensors
            names |= {own: f"{name}.{inner}" if name else inner for own, inner in norm.names.items()}
        yield TargetUnit(name, module, tensors, name, names, norms=norms)
    elif parametrize.is_parametrized(module):
        parametrizations = module.parametrizations
        assert isinstance(parametrizations, nn.ModuleDict)
        taken.update(id(part) for part in parametrizations.modules())
        tensors = persistent(module)
        for own in parametrizations:
            tensors[own] = getattr(module, own)
        yield TargetUnit(name, module, tensors, name)
    elif isinstance(module, RECURRENT):
        for layer in range(module.num_layers):
            for direction in ("", "_reverse") if module.bidirectional else ("",):
                end = f"_l{layer}{direction}"
                tensors = {own.removesuffix(end): tensor for own, tensor in persistent(module).items()
                           if own.endswith(end)}  # fmt: skip
                yield TargetUnit(f"{name}:{end[1:]}", module, tensors, name)
    elif isinstance(module, nn.MultiheadAttention):
        taken.add(id(module.out_proj))
        tensors = persistent(module)
        tensors |= {f"out_proj.{own}": tensor for own, tensor in persistent(module.out_proj).items()}
        yield TargetUnit(name, module, tensors, name)
    elif tensors := persistent(module):
        if is_layer(module):
            yield TargetUnit(name, module, tensors, name)
        else:
            for own, tensor in tensors.items():
                yield TargetUnit(f"{name}.{own}" if name else own, module, {own: tensor}, name)


LAYERS: tuple[type[nn.Module], ...] = (
    nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.PReLU, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
    nn.LSTMCell, nn.GRUCell, nn.RNNCell, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d,
    nn.ConvTranspose3d, nn.modules.batchnorm._NormBase, ResetBeforeGRU,
)  # fmt: skip


def is_layer(module: nn.Module) -> bool:
    """Whether there are layout rules for the type of the module."""
    return isinstance(module, (*LAYERS, *RECURRENT, nn.MultiheadAttention))


def full_name(unit: TargetUnit, own: str) -> str:
    """The name of the unit's tensor `own` in the state dict."""
    if own in unit.names:
        return unit.names[own]
    end = unit.name.rpartition(":")[2] if isinstance(unit.module, RECURRENT) else ""
    base = f"{own}_{end}" if end else own
    return f"{unit.owner}.{base}" if unit.owner else base


def is_parametrized(unit: TargetUnit, own: str) -> bool:
    """Whether a parametrization computes this tensor on each access."""
    return parametrize.is_parametrized(unit.module, own)


def current_value(unit: TargetUnit, own: str) -> Tensor:
    """The current value of a tensor of the unit."""
    return getattr(unit.module, own) if is_parametrized(unit, own) else unit.tensors[own]


def stored_tensors(unit: TargetUnit, own: str) -> list[Tensor]:
    """The tensors that the module stores: the tensor itself, or those from which a parametrization computes it."""
    if not is_parametrized(unit, own):
        return [unit.tensors[own]]
    parametrizations = unit.module.parametrizations
    assert isinstance(parametrizations, nn.ModuleDict)
    return [*parametrizations[own].parameters(), *parametrizations[own].buffers()]


@torch.no_grad()
def write(unit: TargetUnit, own: str, value: Tensor) -> None:
    """Write a tensor of the unit, through its parametrization if it has one."""
    if is_parametrized(unit, own):
        setattr(unit.module, own, value)
    else:
        unit.tensors[own].copy_(value)
