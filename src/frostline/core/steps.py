"""What a step of training needs, checked before torch fails on it, and copies to take trial steps with."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.errors import DataError
from frostline.core.inputs import describe
from frostline.core.layers import compact_recurrent

if TYPE_CHECKING:
    from torch.optim import Optimizer


def check_loss(loss: Any, where: str) -> None:
    """Raise unless backward can be called on the loss.

    Raises:
        DataError: If it is not a scalar tensor, or nothing that trains is behind it.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise DataError(
            what="The loss is not a scalar.", where=where, received=describe(loss),
            do="return the mean over the samples, one number.",
        )  # fmt: skip
    if not loss.requires_grad:
        raise DataError(
            what="The loss does not depend on any trainable parameter: backward cannot run.",
            where=where, received="a loss without requires_grad",
            do="keep the model's output in the graph (no detach, no torch.no_grad), and thaw some layers.",
        )  # fmt: skip


def take_step(optimizer: Optimizer) -> None:
    """`optimizer.step()`.

    Raises:
        DataError: If it does not take sparse gradients, or needs a closure.
    """
    try:
        optimizer.step()
    except TypeError as error:
        if "closure" not in str(error):
            raise
        raise DataError(
            what="The optimizer needs a closure.", where=type(optimizer).__name__, received=str(error),
            do="use one that steps by gradients alone, such as torch.optim.AdamW.",
        ) from error  # fmt: skip
    except RuntimeError as error:
        if "sparse" not in str(error):
            raise
        raise DataError(
            what="The optimizer does not take sparse gradients.", where=type(optimizer).__name__, received=str(error),
            do="use torch.optim.SGD or SparseAdam, or build the nn.Embedding with sparse=False.",
        ) from error  # fmt: skip


def check_dense(model: nn.Module) -> None:
    """Raise if a parameter is itself a sparse tensor; sparse gradients are another thing.

    Raises:
        DataError: It names the parameter.
    """
    for name, parameter in model.named_parameters():
        if parameter.layout is not torch.strided:
            raise DataError(
                what="A parameter is a sparse tensor, which cannot be measured, copied or saved.", where=name,
                received=f"layout {parameter.layout}",
                do="keep it dense, with zeros (torch.nn.utils.prune does that), or train it in a loop of your own.",
            )  # fmt: skip


def copied(model: nn.Module, *others: Any) -> tuple[Any, ...]:
    """The model and what goes with it (its optimizer), copied together.

    Weights that a hook computes before every forward (pruning, `nn.utils.weight_norm`) are copied as values: the
    copy's own hook computes them anew.

    Raises:
        DataError: If the model cannot be copied.
    """
    check_dense(model)
    computed = [
        value for module in model.modules() for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    ]  # fmt: skip
    try:
        twins = copy.deepcopy((model, *others), {id(value): value.detach().clone() for value in computed})
    except (RuntimeError, TypeError) as error:
        raise DataError(
            what="The model cannot be copied, so nothing can be tried on it.", where=type(model).__name__,
            received=f"{type(error).__name__}: {error}",
            do="keep no tensors with a gradient history and no open files on the model; or use frostline.Monitor.",
        ) from error  # fmt: skip
    compact_recurrent(twins[0])
    return twins
