"""One answer for all samples: what a network that has learnt nothing gives."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOVED = 1e-2  # of the largest answer


def one_answer(output: Any, others: list[Any], given: Sequence[Tensor] = ()) -> Any:
    """The mean answer, given to every sample; None where answers are of no kind that has a mean.

    Answers by name have none where one of them is a loss, or an input that the model hands on: what is compared with
    the target, or with the input, is not known then.

    Args:
        output: Answers to the batch that gets it: a tensor, or tensors by name.
        others: Of all batches that the mean is taken of, this one as well.
        given: The inputs of the batch.
    """
    if isinstance(output, Tensor):
        return _mean_of(output, others) if output.dim() and output.is_floating_point() else None
    if not isinstance(output, MutableMapping):
        return None
    named = cast("MutableMapping[str, Any]", output)
    floats = {name: value for name, value in named.items() if isinstance(value, Tensor) and value.is_floating_point()}
    has_input = len(floats) > 1 and any(_is_part_of(value, given) for value in floats.values())
    if not floats or has_input or not all(value.dim() for value in floats.values()):
        return None
    same = copy.copy(named)
    for name, value in floats.items():
        same[name] = _mean_of(value, [other.get(name) for other in others if isinstance(other, MutableMapping)])
    return same


def _is_part_of(value: Tensor, given: Sequence[Tensor]) -> bool:
    """True for an input that was handed on, reshaped or not."""
    return any(value is one or _share_memory(value, one) for one in given)


def _share_memory(value: Tensor, other: Tensor) -> bool:
    if value.layout != torch.strided or other.layout != torch.strided or value.device != other.device:
        return False
    return bool(value.numel()) and value.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _mean_of(values: Tensor, others: list[Any]) -> Tensor:
    shape = values.shape[1:]
    tensors = [other for other in others if isinstance(other, Tensor) and other.dim() == values.dim()]
    alike = [other for other in tensors if other.shape[1:] == shape]
    together = torch.cat(alike) if len(alike) > 1 else values
    return together.mean(0, keepdim=True).expand_as(values).clone()  # as answers are: losses may view or change them


def is_moved(output: Any, same: Any) -> bool:
    """True if some answer is well away from the one for all."""
    if isinstance(output, Tensor):
        return bool((output - same).abs().max() > _MOVED * output.abs().max()) if output.numel() else False
    floats = [name for name, value in output.items() if isinstance(value, Tensor) and value.is_floating_point()]
    return any(is_moved(output[name], same[name]) for name in floats)


def num_rows(output: Any, *, unknown: int) -> int:
    """Samples that were answered; `unknown` where the output does not say."""
    tensors = [output] if isinstance(output, Tensor) else []
    if isinstance(output, MutableMapping):
        tensors = [value for value in cast("MutableMapping[str, Any]", output).values() if isinstance(value, Tensor)]
    return max((len(tensor) for tensor in tensors if tensor.dim()), default=unknown)
