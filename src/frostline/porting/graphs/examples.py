"""Example inputs for a module, guessed from its layers; only the flow of their values is used, not the numbers."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SIDES = (64, 224, 32, 28, 48, 96, 12, 8, 128, 160, 299, 512)  # usual sizes of images, small ones first
_OF_NORMS = {"parametrizations"}  # the only child of a layer under a weight norm
_LENGTHS = (16, 8, 64, 5, 128)


BATCH = 3  # samples; an axis of size 1 may be squeezed or broadcast
_MOST_VALUES = 1 << 24  # in one example: an image of 512 x 512 with 32 channels, twice
_MOST_STATED = 1 << 26  # in an input that a file states: three images of 2,700 x 2,700
_SMALLEST_PATCH = 4
_OF_IMAGES = 4  # axes of a batch of images; a sequence of images has one more, where channels may be last
_MOST = 80  # examples to try


def examples(model: nn.Module, shapes: Sequence[tuple[tuple[int, ...], str]] = ()) -> Iterator[Any]:
    """Inputs that the module may take, the likely ones first.

    Args:
        model: The module.
        shapes: Shapes and dtypes of the inputs of the source network, if they are known; without the batch axis, and
            with channels last.
    """
    layers = [module for module in model.modules() if {name for name, _ in module.named_children()} <= _OF_NORMS]
    lengths = {size for one in model.parameters() if one.ndim in (2, 3) for size in one.shape[-2:-1]}
    first = (form for layer in layers for form in _of_patches(layer, lengths))
    forms = {(form.dtype, form.shape): form for form in (*first, *(form for layer in layers for form in _forms(layer)))}
    yield from itertools.islice(_tuples(model, list(forms.values()), shapes), _MOST)


def is_makeable(shape: Sequence[int]) -> bool:
    """Whether an input of a shape that a file states may be allocated: a hostile file may state any size."""
    return all(size > 0 for size in shape) and math.prod(shape) <= _MOST_STATED


def _tuples(model: nn.Module, forms: list[Tensor], shapes: Sequence[tuple[tuple[int, ...], str]]) -> Iterator[Any]:
    if shapes and all(is_makeable((BATCH, *shape)) for shape, _ in shapes):
        last = tuple(torch.zeros((BATCH, *shape), dtype=torch.long) if "int" in dtype else torch.ones((BATCH, *shape))
                     for shape, dtype in shapes)  # fmt: skip
        first = tuple(one.movedim(-1, 1) if one.is_floating_point() and one.ndim > 1 else one for one in last)
        frames = tuple(one.movedim(-1, 2) if one.is_floating_point() and one.ndim > _OF_IMAGES else one for one in last)
        for way in (first, last, frames) if any(one.ndim > _OF_IMAGES for one in last) else (first, last):
            yield way if len(way) > 1 else next(iter(way))
    by_layer = sorted(forms, key=lambda form: (form.dtype != torch.long, form.ndim < 4, tuple(form.shape[1:])))
    small = [form for form in by_layer if form.numel() <= _MOST_VALUES]
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    for form in small:
        yield _made(form, device)
    for form in small:
        for count in (2, 3):  # networks of several inputs of one kind
            yield (_made(form, device),) * count


def _made(form: Tensor, device: torch.device) -> Tensor:
    """A tensor of this form: ones, or zeros as indices, which every embedding has."""
    return torch.zeros_like(form, device=device) if form.dtype == torch.long else torch.ones_like(form, device=device)


def _of_patches(layer: nn.Module, lengths: Iterable[int]) -> Iterator[Tensor]:
    """Images with as many patches as the model has positions, less one or two for a class and a distillation token."""
    if not isinstance(layer, nn.Conv2d) or layer.stride != layer.kernel_size or layer.stride[0] < _SMALLEST_PATCH:
        return
    for length in sorted(lengths):
        for count in (length, length - 1, length - 2):
            side = math.isqrt(max(count, 0))
            if side > 1 and side**2 == count:
                sizes = (side * stride for stride in layer.stride)
                yield torch.empty((BATCH, layer.in_channels, *sizes), device="meta", dtype=layer.weight.dtype)


def _forms(layer: nn.Module) -> Iterator[Tensor]:
    """Forms of inputs for one layer, as tensors of the meta device: large ones would take gigabytes of memory."""
    dtype = next((one.dtype for one in layer.parameters() if one.is_floating_point()), torch.float32)

    def values(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta", dtype=dtype)

    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        for length in _LENGTHS:
            yield torch.empty((BATCH, length), dtype=torch.long, device="meta")
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        axes = len(layer.kernel_size)
        for side in _SIDES if axes < 3 else (16, 8, 6, 32):
            yield values(BATCH, layer.in_channels, *(side,) * axes)
        for side in _SIDES[:4]:
            yield values(BATCH, *(side,) * axes, layer.in_channels)
    elif isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        for side in (4, 8, 16):
            yield values(BATCH, layer.in_channels, *(side,) * len(layer.kernel_size))
    elif isinstance(layer, nn.Linear):
        yield values(BATCH, layer.in_features)
        for length in _LENGTHS:
            yield values(BATCH, length, layer.in_features)
    elif isinstance(layer, (nn.LSTM, nn.GRU, nn.RNN)):
        for length in _LENGTHS:
            yield values(BATCH, length, layer.input_size)
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        yield values(BATCH, layer.num_features)
        for side in _SIDES[:6]:
            yield values(BATCH, layer.num_features, side, side)
    elif isinstance(layer, (nn.LayerNorm, nn.GroupNorm)):
        count = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.normalized_shape[-1]
        for side in _SIDES[:3]:
            yield values(BATCH, count, side, side)
        yield values(BATCH, 16, count)
