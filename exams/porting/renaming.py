"""The same module under other names: layers renamed and registered in another order, the computation unchanged."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import random

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # their order, or their keys, are part of what they compute


def rename(module: nn.Module, chance: random.Random) -> nn.Module:
    """Give every layer and parameter of the module's own classes a random name, and shuffle their registration.

    Layers of PyTorch itself keep the names of their tensors. Each renamed class gets properties of the old names, so
    that its `forward` still finds what it reads.

    Args:
        module: Changed in place.
        chance: Where names and orders come from.

    Returns:
        The same module.
    """
    for part in list(module.modules()):
        is_own = not type(part).__module__.startswith("torch.") and not isinstance(part, LISTS)
        if not is_own:
            continue
        old_names: dict[str, str] = {}
        for table in (part._modules, part._parameters, part._buffers):
            entries = list(table.items())
            chance.shuffle(entries)
            table.clear()
            for old, value in entries:
                new = "".join(chance.choices(string.ascii_lowercase, k=6))
                table[new], old_names[old] = value, new
        properties = {old: property(lambda self, new=new: getattr(self, new)) for old, new in old_names.items()}
        part.__class__ = type(type(part).__name__, (type(part),), properties)
    return module
