"""Rows 51 and 52: files that are sound, and would be wrong in the module."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import frostline as fl
from frostline.core.errors import PortError

from .case import built

NAMES = ("layer1", "layer10", "layer2")


class Stack(nn.Module):
    """Three square layers, in the order of these names."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        super().__init__()
        self.names = names
        for name in names:
            self.add_module(name, nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 4) to (B, 4)."""
        for name in self.names:
            x = getattr(self, name)(x).relu()
        return x


def _into_half(path: Path) -> None:
    fl.port(path, nn.Sequential(nn.Linear(4, 4)).half())


@built(51, "values that float16 cannot hold", "do not fit into float16", port=_into_half)
def _large(folder: Path) -> Path:
    save_file({"0.weight": torch.full((4, 4), 1e6), "0.bias": torch.zeros(4)}, folder / "a.safetensors")
    return folder / "a.safetensors"


def _true() -> Stack:
    torch.manual_seed(0)
    return Stack()


@built(52, "layers whose names say nothing", "more than one way|could not be told|fit equally well",
       port=lambda path: fl.port(path, Stack()))  # fmt: skip
def _nameless(folder: Path) -> Path:
    state = _true().state_dict()
    words = dict(zip(NAMES, ("north", "east", "south"), strict=True))
    save_file({f"{words[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in state.items()},
              folder / "a.safetensors")  # fmt: skip
    return folder / "a.safetensors"


def _proven(path: Path) -> None:
    """With outputs of the source network, names that lie do not make the module wrong."""
    source, model, x = _true(), Stack(), torch.randn(8, 4)
    wanted = source(x).detach()
    try:
        fl.port(path, model, golden=(x, wanted))
    except PortError:
        raise
    else:
        torch.testing.assert_close(model(x), wanted)
        raise PortError(what="right", where="the module", received="the outputs", do="nothing")


@built(
    52,
    "names that were exchanged, with golden outputs",
    "right|differ|more than one way|fit equally well",
    port=_proven,
)
def _exchanged(folder: Path) -> Path:
    state = _true().state_dict()
    lies = dict(zip(NAMES, ("layer10", "layer2", "layer1"), strict=True))
    save_file({f"{lies[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in state.items()},
              folder / "a.safetensors")  # fmt: skip
    return folder / "a.safetensors"
