"""Can this model be split here, and may its frozen part be cached? Checked, not assumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.arguments import as_names
from frostline.core.errors import DataError, NotCacheable, SplitError

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
            do='frostline.freeze(model, through="LAYER") first, then split.'
            if len(list(model.modules())) > 2
            else "pass a model of several layers, and freeze the lower ones: one layer has no line to split at.",
        )
    if len(frozen) == len(parameters):
        raise SplitError(
            what="Everything is frozen: nothing is left to train.",
            where=type(model).__name__,
            received=f"{len(parameters)} parameters, all frozen",
            do='frostline.thaw(model, down_to="LAYER") or frostline.replace_head(model, num_classes), then split.',
        )


def check_features(features: Any, frontier: tuple[FrontierTensor, ...]) -> None:
    """Raise unless these are as many tensors as cross the frost line.

    Raises:
        DataError: If they are not.
    """
    found = cast("tuple[Any, ...]", features) if isinstance(features, (tuple, list)) else ()
    if len(found) != len(frontier) or not all(isinstance(x, Tensor) and x.layout is torch.strided for x in found):
        raise DataError(
            what="These are not the features of this split.", where="features", received=batches.describe(features),
            do=f"pass what extract gave: {len(frontier)} tensors in the order of split.frontier.",
        )  # fmt: skip


def check_modes(modes: Any) -> None:
    """Raise unless these are `train`, `eval`, or both.

    Raises:
        DataError: If they are not.
    """
    given = as_names("Split.verify", "modes", modes)
    if isinstance(modes, str) or not given or set(given) - {"train", "eval"}:
        raise DataError(
            what="A model has two modes.", where="Split.verify(modes=...)", received=repr(modes),
            do="pass ('train',), ('eval',) or ('train', 'eval').",
        )  # fmt: skip


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


def _tied(model: nn.Module) -> list[str]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(name)
    return next((group for group in names.values() if len(group) > 1), [])
