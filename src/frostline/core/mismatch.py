"""Inputs of another dtype or with their axes in another order than the model takes: what to do to the dataset."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import FOREIGN, DataError, FrostlineError
from frostline.core.inputs import describe, leaves

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import nn

_DTYPES = re.compile(r"same dtype|[Ii]nput type|scalar type|not implemented for '|should be the same")
_INDICES = re.compile(r"argument #1 'indices'.*but got torch\.\w*(Float|Double|Half|BFloat16)Tensor")
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
_COLOURS = (1, 3, 4)


@contextmanager
def told_mismatch(model: nn.Module, inputs: Any) -> Generator[None]:
    """Inside, an error of the model over the dtype or the axes of these inputs becomes one that names the remedy.

    Args:
        model: Its weights have one floating dtype, or nothing is told.
        inputs: What it was called with.
    """
    try:
        yield
    except (*FOREIGN, FrostlineError) as error:
        cause = error.__cause__ if isinstance(error, FrostlineError) else error
        remedy = _remedy(str(cause), model, inputs)
        if remedy is None:
            raise
        raise DataError(
            what=f"{type(model).__name__} cannot take the inputs as they come from the dataset.",
            where="the inputs", received=f"{describe(inputs)}; {(str(cause).splitlines() or [''])[0]}",
            do=f"{remedy} in the dataset.",
        ) from cause  # fmt: skip


def _remedy(text: str, model: nn.Module, inputs: Any) -> str | None:
    tensors = list(leaves(inputs).values())
    steps: list[str] = []
    channels = _CHANNELS.search(text)
    is_of_dtypes = _DTYPES.search(text) is not None
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    other = [tensor for tensor in tensors if kinds and tensor.dtype not in kinds]
    if _INDICES.search(text):
        steps.append("pass whole numbers (inputs.long()) to an embedding")
    elif is_of_dtypes and other and len(kinds) == 1:
        own = str(next(iter(kinds)))
        bytes_ = any(tensor.dtype == torch.uint8 and tensor.dim() > 2 for tensor in other)
        steps.append(f"convert them to the dtype of the weights: inputs.to({own}){' / 255' if bytes_ else ''}")
    last = [tensor.shape[-1] for tensor in tensors if tensor.dim() == 4 and tensor.shape[1] not in _COLOURS]
    if (channels and int(channels[1]) in last) or (steps and any(size in _COLOURS for size in last)):
        steps.append("put the channels first: image.permute(2, 0, 1)")
    return "; ".join(steps) or None
