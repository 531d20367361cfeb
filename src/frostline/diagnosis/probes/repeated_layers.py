"""Layers that stand in several places of a model, and parameters under several names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

_TABLES = (nn.Embedding, nn.EmbeddingBag)  # whose weights are the output matrix as well, on purpose


def shared_layers(model: nn.Module) -> tuple[tuple[tuple[str, ...], str], ...]:
    """(names, what) of layers with parameters under several names, and of parameters of several layers.

    A matrix that is shared with an embedding is left out: that is how language models are made.
    """
    layers: dict[int, list[str]] = {}
    known: dict[int, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if name and any(True for _ in module.parameters()):
            layers.setdefault(id(module), []).append(name)
            known[id(module)] = module
    repeated = {key: names for key, names in layers.items() if len(names) > 1}
    top = [names for key, names in repeated.items() if not _is_inside(names, repeated, key)]
    found = [(tuple(names), "layer") for names in top]
    below = {name for names in repeated.values() for name in names}
    parameters: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name.rpartition(".")[0] not in below:
            parameters.setdefault(id(parameter), []).append(name)
    tables = {id(own) for module in model.modules() if isinstance(module, _TABLES) for own in _own(module)}
    found += [(tuple(names), "parameter") for key, names in parameters.items() if len(names) > 1 and key not in tables]
    return tuple(found)


def _own(module: nn.Module) -> list[Tensor]:
    return list(module.parameters(recurse=False))


def _is_inside(names: list[str], repeated: dict[int, list[str]], own: int) -> bool:
    """True for a part of a layer that is repeated as a whole."""
    wholes = {name for key, others in repeated.items() if key != own for name in others}
    parents = {name.rpartition(".")[0] for name in names}
    return all(any(parent == whole or parent.startswith(f"{whole}.") for whole in wholes) for parent in parents)
