"""Random inputs for a Keras network, with the stated shapes, and with values that suit its first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from frostline.porting.graphs.examples import is_makeable
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.network import called, input_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from frostline.porting.readers.contract import Source, SourceLayer

NUM_SAMPLES = 3
OPEN_SIDE = 64  # of images whose size is open: 2 after five layers that halve it
OPEN_LENGTH = 16  # of other open axes
PREPARING = ("Rescaling", "Normalization")  # layers that only rescale inputs


@torch.no_grad()
def samples(source: Source, seed: int = 0) -> tuple[Tensor, ...]:
    """One value for each input: numbers that are normal after all rescaling, or indices of an embedding.

    Args:
        source: A network with its architecture.
        seed: The seed of the generator; PyTorch's global generator is not used.

    Raises:
        NotInterpretedError: If the file does not state the shape of an input or the size of its embedding.
    """
    random = torch.Generator().manual_seed(seed)
    layers = {layer.name: layer for layer in source.layers}
    return tuple(_sample(source, layers[name], random) for name in input_names(source) if name in layers)


def masking_layers(source: Source) -> tuple[SourceLayer, ...]:
    """The layers that mark steps of their input as padding."""
    return tuple(layer for layer in source.layers if layer.kind == "Masking" or layer.config.get("mask_zero") is True)


def padded(source: Source, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Inputs that end in padding: no step of the first sample, half of the second, all but one step of the third.

    Args:
        source: A network with layers that mark padding.
        inputs: The result of `samples`.
    """
    made = [one.clone() for one in inputs]
    for at, name in enumerate(input_names(source)):
        for layer in masking_layers(source):
            if name in layer.inputs:
                filling = layer.config.get("mask_value", 0.0) if layer.kind == "Masking" else 0
                steps_BT = made[at].movedim(-2, 1) if layer.kind == "Masking" else made[at].movedim(-1, 1)
                length = steps_BT.shape[1]
                steps_BT[1:2, (length + 1) // 2 :] = filling
                steps_BT[2:3, 1:] = filling
    return tuple(made)


def prepared_by(source: Source, name: str) -> SourceLayer | None:
    """The only layer that takes the output of another one, if it only rescales values; else None."""
    takers = [layer for layer in source.layers if name in layer.inputs]
    return takers[0] if len(takers) == 1 and takers[0].kind in PREPARING else None


def _sample(source: Source, layer: SourceLayer, random: torch.Generator) -> Tensor:
    shape = (NUM_SAMPLES, *_shape(layer))
    tables = [one for one in source.layers if layer.name in one.inputs and one.kind == "Embedding"]
    if tables:
        first = int(any(one.config.get("mask_zero") for one in tables))
        rows = [size for one in tables if isinstance(size := one.config.get("input_dim"), int) and size > first]
        if len(rows) < len(tables):
            raise NotInterpretedError(f"not interpreted: {layer.name} (InputLayer): the sizes of its embeddings")
        return torch.randint(first, min(rows), shape, generator=random)
    value = torch.randn(shape, generator=random, dtype=torch.float64)
    chain: list[SourceLayer] = []
    while (after := prepared_by(source, chain[-1].name if chain else layer.name)) is not None:
        chain.append(after)
    for one in reversed(chain):  # each is a scale and an offset, which two values determine
        zero = called(source, one, (torch.zeros_like(value),))
        value = (value - zero) / (called(source, one, (torch.ones_like(value),)) - zero)
    return value.float().double()  # rounded, so that the module in float32 gets the same numbers


def _shape(layer: SourceLayer) -> tuple[int, ...]:
    stated = layer.config.get("batch_shape") or layer.config.get("batch_input_shape")
    if not isinstance(stated, (list, tuple)) or len(stated) > 5:
        raise NotInterpretedError(f"not interpreted: {layer.name} (InputLayer): the shape {stated!r}")
    filling = OPEN_SIDE if len(stated) == 4 else OPEN_LENGTH
    sizes: list[Any] = list(stated[1:])
    last = len(sizes) - 1 if len(sizes) > 1 else -1  # the number of channels, which must be stated
    sizes = [filling if size is None and axis != last else size for axis, size in enumerate(sizes)]
    if not all(isinstance(size, int) for size in sizes) or not is_makeable((NUM_SAMPLES, *sizes)):
        raise NotInterpretedError(f"not interpreted: {layer.name} (InputLayer): the shape {stated!r}")
    return tuple(sizes)
