"""The demo's last act: a network that Keras trained and saved, into a module that was written by hand."""

from __future__ import annotations

import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.demo.data import accuracy, load_digits_task
from frostline.porting.blocks import SamePad2d
from frostline.porting.readers.formats import open_source
from frostline.recipes.port import port

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path(__file__).with_name("digits.keras")  # tests/porting/make/keras_demo.py wrote it
KERAS_ACCURACY = 0.9741  # as Keras itself measured it, on the same held-out images
_WIDTH = 100  # characters of a line


class Digits(nn.Module):
    """What `digits.keras` computes, under other names: input (B, 1, 32, 32), output logits (B, 10).

    Args:
        is_usual: Whether paddings and epsilon are those that PyTorch's users would write: all shapes are the same.
    """

    def __init__(self, *, is_usual: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(12 * 4 * 4, 10)
        padding = 1 if is_usual else 0
        self.third = nn.Conv2d(12, 12, 3, stride=2, padding=padding)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=padding)
        self.first = nn.Conv2d(1, 8, 3, stride=2, padding=padding, bias=False)
        self.norm = nn.BatchNorm2d(8, eps=1e-5 if is_usual else 1e-3)
        self.pad = nn.Identity() if is_usual else SamePad2d(3, stride=2)

    def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10)."""
        x = self.norm(self.first(self.pad(images_B1HW))).relu()
        x = self.second(self.pad(x)).relu()
        x = self.third(self.pad(x)).relu()
        return self.head(x.flatten(1))


def build() -> nn.Module:
    """The module that fits; `frostline port FILE --to frostline.demo.foreign_weights:build` takes it."""
    return Digits()


@dataclass(frozen=True)
class PortAct:
    """What the last act shows.

    Attributes:
        by_hand: Accuracy on held-out digits of the usual module, its tensors transposed and copied by shape.
        refused: What `port` says of the same module.
        ported: Accuracy of the module that fits.
        tested: How far the port is proven.
        total_s: Of the act.
    """

    by_hand: float
    refused: str
    ported: float
    tested: str
    total_s: float

    def text(self) -> str:
        """For people."""
        told = (f"The first module is refused: {self.refused}.", f"The second is proven: {self.tested}")
        return "\n".join(
            [
                "3. A network that Keras saved, in your own module", "", "Accuracy on held-out digits",
                f"  {'Keras itself':<42}{KERAS_ACCURACY:>6.3f}",
                f"  {'kernels transposed by hand, all shapes fit':<42}{self.by_hand:>6.3f}",
                f"  {'ported':<42}{self.ported:>6.3f}",
                "", *(textwrap.fill(one, _WIDTH, subsequent_indent="  ") for one in told),
            ]
        )  # fmt: skip


def run_port_act(say: Callable[[str], None]) -> PortAct:
    """Copy the file's tensors by hand, port into the same module, and into one that fits."""
    started = time.perf_counter()
    say("A network that Keras trained, copied by hand and ported")
    _, test = load_digits_task(range(10))
    usual, fitting = Digits(is_usual=True), Digits()
    by_hand = accuracy(_copied_by_hand(usual), test)
    try:
        refused = port(FILE, Digits(is_usual=True)).tested
    except PortError as error:
        refused = error.received
    certificate = port(FILE, fitting)
    return PortAct(by_hand, refused, accuracy(fitting, test), certificate.tested, time.perf_counter() - started)


def _copied_by_hand(model: Digits) -> Digits:
    """The file's tensors, each turned as PyTorch has its axes, and copied to the layer at the same place."""
    layers = {"strokes": model.first, "strokes_bn": model.norm, "corners": model.second, "shapes": model.third,
              "digit": model.head}  # fmt: skip
    names = {"kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
             "moving_variance": "running_var"}  # fmt: skip
    with open_source(FILE) as (source, _), torch.no_grad():
        for tensor in source.tensors:
            value = tensor.load()
            turned = value.permute(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value
            own = layers[tensor.unit].get_parameter if tensor.leaf[:6] != "moving" else layers[tensor.unit].get_buffer
            own(names.get(tensor.leaf, tensor.leaf)).copy_(turned)
    return model
