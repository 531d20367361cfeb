"""Variants of a head: another dropout, a hidden layer before the output layer; and where that layer is.

Legend: D inputs and C outputs of the output layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.layers import submodule
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes, seed_generators


class LinearAfterDropout(nn.Linear):
    """A linear layer with noise on its inputs, under the names that the layer has without.

    Args:
        layer: The layer, whose parameters it takes over.
        dropout: Probability, as of `nn.Dropout`.
    """

    def __init__(self, layer: nn.Linear, dropout: float) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.dropout = dropout

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Dropout` and then `nn.Linear`."""
        return F.linear(F.dropout(input, self.dropout, self.training), self.weight, self.bias)


@dataclass(frozen=True)
class OutputLayer:
    """The linear layer whose output is that of the head.

    Attributes:
        name: Its qualified name; "" if the head is this layer.
        inputs: What it got on the batch that showed it, (B, ..., D).
        is_all: Nothing else in the head is trained.
    """

    name: str
    inputs: Tensor
    is_all: bool


def find_output_layer(
    head: nn.Module, features: Any, pick: Callable[[Any], Tensor]
) -> OutputLayer | None:  # fmt: skip
    """The output layer of a head, found by running it; None if its output is not that of one linear layer.

    Args:
        head: A copy that may be run.
        features: A batch, as the head takes it.
        pick: callable(output) -> the tensor in it that the loss takes.
    """
    calls: list[tuple[str, Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(partial(_hear, calls, name))
        for name, module in head.named_modules()
        if isinstance(module, nn.Linear) and not module._forward_hooks and not module._forward_pre_hooks
    ]
    try:
        with (
            torch.no_grad(),
            kept_generators(),
            kept_modes(head),
            kept_buffers(head),
            kept_attributes(head, numbers=True),
        ):
            head.eval()
            output = pick(batches.call(head, features))
    finally:
        for handle in handles:
            handle.remove()
    found = [(name, inputs) for name, inputs, own in calls if own is output]
    if not found or sum(name == found[-1][0] for name, _, _ in calls) > 1:
        return None
    name, inputs = found[-1]
    layer = submodule(head, name)
    own = {id(p) for p in layer.parameters()}
    trained = {id(p) for p in head.parameters() if p.requires_grad}
    if not own <= trained or type(layer) not in (nn.Linear, LinearAfterDropout):
        return None
    return OutputLayer(name, inputs, own == trained)


def _hear(
    calls: list[tuple[str, Tensor, Tensor]], name: str, _: nn.Module, args: tuple[Tensor, ...], output: Tensor
) -> None:
    calls.append((name, args[0], output))


def with_dropout(head: nn.Module, dropout: float, layer: OutputLayer | None) -> nn.Module:
    """The head with this dropout: in its own layers of noise if it has any, else before its output layer.

    Args:
        head: A copy, changed in place.
        dropout: Probability.
        layer: Its output layer.

    Raises:
        DataError: If it has neither.
    """
    own = dropout_layers(head)
    for module in own.values():
        module.p = dropout
    if own:
        return head
    if layer is None:
        raise DataError(
            what="This head has no place for dropout.", where="sweep(settings): dropout",
            received="a head without dropout layers, whose output is not that of one linear layer",
            do="leave dropout out of the settings, or build the head with nn.Dropout layers.",
        )  # fmt: skip
    linear = submodule(head, layer.name)
    assert isinstance(linear, nn.Linear)
    return with_module(head, layer.name, LinearAfterDropout(linear, dropout)) if dropout else head


def dropout_layers(head: nn.Module) -> dict[str, Any]:
    """The layers of noise of a head, by name."""
    return {name: m for name, m in head.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd)}


def hidden_layer(linear: nn.Linear, width: int, dropout: float, seed: int) -> nn.Sequential:
    """New layers in place of a linear one: (..., D) to so many ReLU units, and from these to (..., C).

    Args:
        linear: The layer, whose sizes, dtype and device they take.
        width: Units.
        dropout: Probability of noise on the units; 0 draws none.
        seed: Of the weights.
    """
    made: dict[str, Any] = {"dtype": linear.weight.dtype}
    with kept_generators():
        seed_generators(seed)
        layers: list[nn.Module] = [nn.Linear(linear.in_features, width, **made), nn.ReLU()]
        layers += [nn.Dropout(dropout)] if dropout else []
        layers.append(nn.Linear(width, linear.out_features, bias=_has_bias(linear), **made))
    return nn.Sequential(*layers).to(linear.weight.device).train(linear.training)


def _has_bias(linear: nn.Linear) -> bool:
    return "bias" in dict(linear.named_parameters())


def with_module(head: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """The head with another module under this name; the new module itself if the name is empty."""
    if not name:
        return new
    parent, _, leaf = name.rpartition(".")
    submodule(head, parent)._modules[leaf] = new
    return head
