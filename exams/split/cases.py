"""A model of the exam, and the three places at which it is cut."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

import frostline as fl
from frostline.core.layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable

BORDER, INSIDE, RANDOM = "stage border", "inside a block", "random parameter"
CUTS = (BORDER, INSIDE, RANDOM)


@dataclass(frozen=True)
class Case:
    """A model with inputs.

    Attributes:
        kind: `timm`, `transformers` or `switches`.
        name: A module of timm, an architecture of transformers, or what is switched on.
        variant: Which model of it.
        build: Gives the model, the same weights each time.
        example: Gives a batch of so many samples, from a seed.
        freeze: Freezes a part by the name of the cut; None for the three usual ones.
        is_autocast: The model trains under autocast in bfloat16.
        has_peers: A trace and an export are tried beside it.
    """

    kind: str
    name: str
    variant: str
    build: Callable[[], nn.Module]
    example: Callable[[int, int], Any]
    freeze: Callable[[nn.Module], None] | None = None
    is_autocast: bool = False
    has_peers: bool = True

    @property
    def cuts(self) -> tuple[str, ...]:
        """The names of its cuts."""
        return CUTS if self.freeze is None else ("its own",)

    def frozen(self, cut: str) -> tuple[nn.Module, str]:
        """A new model, frozen at a cut, and where that is."""
        model = self.build()
        if self.freeze is not None:
            self.freeze(model)
            return model, "what is frozen by the model's own rule"
        if cut == RANDOM:
            parameters = dict(model.named_parameters())
            count = random.Random(f"{self.kind}/{self.name}").randrange(1, len(parameters))
            fl.freeze(model, parameters=list(parameters.values())[:count])
            return model, f"parameters up to {list(parameters)[count - 1]}"
        name = place(model, cut)
        fl.freeze(model, through=name)
        return model, name


def place(model: nn.Module, cut: str) -> str:
    """The middle child of the list of blocks that holds most weights; or the middle layer of the block after it."""
    name, blocks = _largest_list(unwrapped(model)[0])
    children = [key for key, child in blocks.named_children() if _size(child)]
    middle = (len(children) - 1) // 2
    if cut == BORDER:
        return f"{name}.{children[middle]}".lstrip(".")
    following = f"{name}.{children[middle + 1]}".lstrip(".")
    leaves = [key for key, own in unwrapped(model)[0].get_submodule(following).named_modules()
              if key and list(own.parameters(recurse=False))]  # fmt: skip
    return f"{following}.{leaves[(len(leaves) - 1) // 2]}" if leaves else following


def _largest_list(model: nn.Module) -> tuple[str, nn.Module]:
    """Of the lists of at least two layers with weights: the one that holds most of them, the outermost of equals."""
    lists = {
        name: module for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential, nn.ModuleDict)) and name
        and sum(_size(child) > 0 for child in module.children()) > 1
    }  # fmt: skip
    if not lists:
        return next((name, module) for name, module in model.named_modules()
                    if sum(_size(child) > 0 for child in module.children()) > 1)  # fmt: skip
    return max(lists.items(), key=lambda pair: _size(pair[1]))


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
