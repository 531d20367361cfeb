"""Can this model be split here, and may its frozen part be cached? Checked, not assumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.restore import kept_buffers, kept_modes
from frostline.splitting.structure import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from frostline.core.records import FrontierTensor


def check_line(model: nn.Module) -> None:
    """Raise unless the model has frozen and trainable parameters.

    Raises:
        SplitError: If one of the two is missing.
    """
    parameters = list(model.named_parameters())
    frozen = [name for name, parameter in parameters if not parameter.requires_grad]
    if not frozen:
        raise SplitError(
            what="Nothing is frozen: there is no frost line to split at.",
            where=type(model).__name__,
            received=f"{len(parameters)} parameters, all trainable",
            do='frostline.freeze(model, through="LAYER") first, then split.',
        )
    if len(frozen) == len(parameters):
        raise SplitError(
            what="Everything is frozen: nothing is left to train.",
            where=type(model).__name__,
            received=f"{len(parameters)} parameters, all frozen",
            do='frostline.thaw(model, down_to="LAYER") or frostline.replace_head(model, num_classes), then split.',
        )


def check_example(model: nn.Module, example: Any) -> None:
    """Raise unless the example is a batch that the model can take.

    Raises:
        DataError: If it has fewer than two samples or lies on another device.
    """
    size = batches.batch_size(example)
    if size < 2:
        raise DataError(
            what="The example batch is too small: one sample does not show how sizes follow the batch.",
            where="the example",
            received=f"{size} sample ({batches.describe(example)})",
            do="pass a batch of two samples or more.",
        )
    device = next(model.parameters()).device
    for name, tensor in batches.leaves(example).items():
        if tensor.device != device:
            raise DataError(
                what="The example lies on another device than the model.",
                where=f"input {name!r}",
                received=f"example on {tensor.device}, model on {device}",
                do=f"move the example: example.to({str(device)!r}).",
            )


def check_frontier(model: nn.Module, frontier: tuple[FrontierTensor, ...]) -> None:
    """Raise unless some frozen value reaches the head.

    Raises:
        SplitError: If everything depends on a trainable weight; tied weights are named.
    """
    if any(not tensor.is_input and not tensor.shared for tensor in frontier):
        return
    first = next(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    tied = _tied(model)
    raise SplitError(
        what="Everything trains from the input on: no frozen layer comes before the first trainable one.",
        where=f"{first} is trainable" + (f", and tied to {', '.join(repr(name) for name in tied[1:])}" if tied else ""),
        received="a frontier of " + (", ".join(tensor.name for tensor in frontier) or "nothing"),
        do=(
            f"untie {tied[0]!r} (for example config.tie_word_embeddings=False, or a copy of the weight), freeze it, "
            "then split again."
            if tied
            else f"freeze from the input up: frostline.freeze(model, through=...) must include {first!r}."
        ),
    )


def check_repeatable(
    model: nn.Module, extract: Callable[[], tuple[Tensor, ...]], names: list[str]
) -> tuple[tuple[Tensor, ...], float]:
    """Raise unless the same batch gives the same features twice, and no buffer moves.

    Returns:
        The features, and the seconds that the second pass took.

    Raises:
        NotCacheable: If it does not.
    """
    before = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    first = extract()
    started = time.perf_counter()
    second = extract()
    elapsed_s = time.perf_counter() - started
    for name, buffer in model.named_buffers():
        if name in before and not torch.equal(torch.nan_to_num(before[name]), torch.nan_to_num(buffer)):
            raise NotCacheable(
                what=f"The frozen part changes its own state: the buffer {name!r} moves in the forward pass.",
                where=name,
                received="other values after a forward pass in inference mode",
                do="frostline.freeze that module, or keep its buffer still in inference mode.",
            )
    for name, a, b in zip(names, first, second, strict=True):
        if not torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)):
            largest = float((a.double() - b.double()).abs().max())
            raise NotCacheable(
                what=f"Cannot cache the output of {name!r}: the same batch gave two different results.",
                where=name,
                received=f"largest difference {largest:.1e}, allowed 0",
                do="remove the randomness (or the state) from that layer, or train with cache=False.",
            )
    return second, elapsed_s


def check_far(model: nn.Module, head: nn.Module, extract: Callable[[Any], tuple[Tensor, ...]], inputs: Any) -> None:
    """Raise unless the head still is the model for a batch far larger than those that were recorded.

    Raises:
        SplitError: If a size only looked as if it followed the batch.
    """
    features = extract(inputs)
    with kept_modes(model), kept_modes(head), kept_buffers(model), torch.no_grad():
        model.eval()
        head.eval()
        expected = tensors_in(batches.call(model, inputs))
        try:
            found = tensors_in(head(*features))
        except (RuntimeError, IndexError, ValueError) as error:
            raise _not_linear(inputs, str(error).splitlines()[0]) from error
    for ours, theirs in zip(found, expected, strict=True):
        if ours.shape != theirs.shape:
            raise _not_linear(inputs, f"shape {tuple(ours.shape)} from the head, {tuple(theirs.shape)} from the model")
        if ours.is_floating_point() and not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-3, equal_nan=True):
            raise _not_linear(inputs, f"largest difference {float((ours - theirs).abs().max()):.1e}")


def _not_linear(inputs: Any, received: str) -> SplitError:
    return SplitError(
        what="A size in the trainable part does not follow the batch beyond the recorded sizes.",
        where=f"a batch of {batches.batch_size(inputs)}",
        received=received,
        do="make the sizes follow the batch (no min(8, B)), or train with frostline.fit(..., cache=False).",
    )


def _tied(model: nn.Module) -> list[str]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(name)
    return next((group for group in names.values() if len(group) > 1), [])
