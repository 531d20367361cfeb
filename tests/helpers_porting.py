"""Sources made of arrays, as readers make them of files."""

import torch
from torch import nn

from frostline.porting.graphs.target_graph import followed
from frostline.porting.layouts.choice import moves
from frostline.porting.readers.contract import Source, SourceLayer, SourceTensor
from frostline.porting.units.forms.module_form import grouped
from frostline.porting.units.unit import source_units, target_units, write


def source_of(framework, units, *, order="file", layers=(), dropped=None):
    """A source with the tensors of `units`: by unit and leaf."""
    tensors = tuple(
        SourceTensor(f"{unit}/{leaf}", tuple(value.shape), str(value.dtype).removeprefix("torch."), unit, leaf,
                     lambda value=value: value.clone())
        for unit, leaves in units.items()
        for leaf, value in leaves.items()
    )  # fmt: skip
    made = tuple(SourceLayer(name, kind, config, tuple(inputs)) for name, kind, config, inputs in layers)
    return Source("arrays of a test", framework, tensors, order, made, dropped or {})


def flow(*arguments, **options):
    """The flow of values in a run of a module; None if it could not be run."""
    return followed(*arguments, **options)[0]


def numbers(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed + sum(shape))) + 0.1


def port_into(module, leaves, framework="keras"):
    """The module with the unit's values, or None if the rules do not pair them."""
    targets = target_units(nn.Sequential(module))
    units = grouped(source_units(source_of(framework, {"u": leaves})), targets)
    for unit, target in zip(units, targets, strict=True):
        found = moves(unit, target)
        if found is None:
            return None
        for move in found:
            parts = tuple(unit.leaves[leaf].load() for leaf in move.sources)
            write(target, move.target, move.forward(parts, target.tensors[move.target].detach()))
    return module


def formed(framework, units, *modules, layers=()):
    """The units of a source as they are matched with modules: shapes by unit and leaf."""
    made = grouped(source_units(source_of(framework, units, layers=layers)), target_units(nn.Sequential(*modules)))
    return {unit.name: {leaf: tensor.shape for leaf, tensor in unit.leaves.items()} for unit in made}
