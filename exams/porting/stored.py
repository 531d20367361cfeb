"""The built networks: what the builder scripts left in their folders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .networks import COUNTERPARTS, Counterpart
from .networks.published import one_layer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

LIMIT = 1e-5  # of the largest value of the golden output, in float32


@dataclass(frozen=True)
class Stored:
    """One network of one framework.

    Attributes:
        framework: Who saved it.
        name: Its name; the key of its counterpart.
        path: Its folder.
    """

    framework: str
    name: str
    path: Path

    def __reduce__(self) -> tuple[type[Stored], tuple[str, str, Path]]:
        """Workers read the rest from the folder."""
        return Stored, (self.framework, self.name, self.path)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the builder noted: the names of the files, the versions of the packages."""
        return json.loads((self.path / "case.json").read_text())

    @property
    def files(self) -> list[str]:
        """The paths that can be ported from, within its folder."""
        return list(self.facts["files"])

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The variables as the framework sees them."""
        with np.load(self.path / "arrays.npz") as file:
            return dict(file)

    @cached_property
    def counterpart(self) -> Counterpart:
        """Its PyTorch module."""
        if self.facts.get("layer"):
            return Counterpart(lambda: one_layer(**self.facts["layer"]), {})
        table = COUNTERPARTS.get(f"{self.framework}/{self.name}")
        return table or COUNTERPARTS[self.name]

    def golden(self, kind: str) -> list[Tensor]:
        """Golden tensors (`input` or `output`), with their channels where PyTorch has them."""
        with np.load(self.path / "golden.npz") as file:
            values = [torch.tensor(file[f"{kind}{index}"]) for index in range(sum(k.startswith(kind) for k in file))]
        values = [value.long() if value.dtype == torch.int32 else value for value in values]
        return [value.movedim(-1, 1) if self.counterpart.moved else value for value in values]

    def error(self, module: nn.Module) -> float:
        """The largest difference of the module's output to the golden one, in shares of its largest value."""
        module.eval()
        with torch.no_grad():
            found = module(*self.golden("input"))
        found = found if isinstance(found, tuple) else (found,)
        errors = [
            float((ours - theirs).abs().max() / theirs.abs().max()) if ours.shape == theirs.shape else float("inf")
            for ours, theirs in zip(found, self.golden("output"), strict=True)
        ]
        return max(errors)


def stored(path: Path) -> list[Stored]:
    """Every network under `path`, in the order of names."""
    return [
        Stored(file.parent.parent.name, file.parent.name, file.parent) for file in sorted(path.glob("*/*/case.json"))
    ]
