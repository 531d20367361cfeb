"""Optimizers and schedulers, by name or as callables."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, ReduceLROnPlateau, StepLR

from frostline.core.arguments import check_callable
from frostline.core.errors import DataError

Clip = Callable[[list[nn.Parameter]], Any]
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop")  # by name; their steps are proportional to the learning rate
_SCHEDULERS = ("cosine", "linear", "step")


def check_names(optimizer: Any, scheduler: Any) -> None:
    """Raise if an optimizer or a scheduler is given by a name that there is not.

    Raises:
        DataError: It lists the names.
    """
    if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
        raise _unknown("optimizer", optimizer, OPTIMIZERS, "a callable(parameters) -> Optimizer")
    if isinstance(scheduler, str) and scheduler not in _SCHEDULERS:
        raise _unknown("scheduler", scheduler, _SCHEDULERS, "a callable(optimizer) -> scheduler")


def make_optimizer(
    optimizer: str | Optimizer | Callable[[list[nn.Parameter]], Optimizer],
    parameters: Iterable[nn.Parameter],
    lr: float,
) -> Optimizer:
    """An optimizer over the parameters that train: `adamw`, `adam`, `sgd` (momentum 0.9), `rmsprop`, or the given one.

    Raises:
        DataError: If there is none of this name, nothing to train, or the callable made none over what trains.
    """
    given = list(parameters)
    trainable = [parameter for parameter in given if parameter.requires_grad]
    if not given:
        raise DataError(
            what="The model has no parameters: there is nothing to train.", where="fit(model)",
            received="a model without parameters", do="pass the model that holds the layers.",
        )  # fmt: skip
    if not trainable:
        raise DataError(
            what="Everything is frozen: no parameter trains.", where="fit(model)",
            received="no parameter that requires gradients",
            do='frostline.thaw(model, down_to="LAYER") or frostline.replace_head(model, num_classes) first.',
        )  # fmt: skip
    check_names(optimizer, None)
    if isinstance(optimizer, Optimizer):
        return _following(_checked(optimizer, trainable))
    if not isinstance(optimizer, str):
        takes = "(parameters) -> Optimizer, or a name"
        make: Callable[[list[nn.Parameter]], Any] = check_callable("fit", "optimizer", optimizer, takes=takes)
        return _checked(make(trainable), trainable)
    known: dict[str, Callable[[], Optimizer]] = {
        "adamw": lambda: torch.optim.AdamW(trainable, lr=lr),
        "adam": lambda: torch.optim.Adam(trainable, lr=lr),
        "sgd": lambda: torch.optim.SGD(trainable, lr=lr, momentum=0.9),
        "rmsprop": lambda: torch.optim.RMSprop(trainable, lr=lr),
    }
    return known[optimizer]()


def _checked(made: Any, trainable: list[nn.Parameter]) -> Optimizer:
    if not isinstance(made, Optimizer):
        raise DataError(
            what="The callable made no optimizer.", where="fit(optimizer=...)", received=f"a {type(made).__name__}",
            do="return the torch.optim.Optimizer, made from the parameters that the callable is given.",
        )  # fmt: skip
    held = {id(parameter) for group in made.param_groups for parameter in group["params"]}
    if not held.intersection(map(id, trainable)):
        raise DataError(
            what="The optimizer does not hold the model's parameters.", where="fit(optimizer=...)",
            received=f"{type(made).__name__} over {len(held)} parameters, none of them trainable ones of the model",
            do="make it from the parameters of this model, those that the callable is given.",
        )  # fmt: skip
    return made


def add_groups(optimizer: Optimizer, groups: Sequence[tuple[Sequence[nn.Parameter], float]]) -> list[int | None]:
    """Add parameters that will train later, each group with a rate of its own; until then they have no gradient.

    An optimizer leaves out what has no gradient, and a scheduler that is made now has the base rates of all groups.

    Args:
        optimizer: It keeps its state, to the bit.
        groups: (parameters, share of the rate of the first group).

    Returns:
        The number of each new group. Parameters that it holds already stay where they are, at its own rate: None.

    Raises:
        DataError: If the optimizer needs a closure: it takes one group only.
    """
    if groups and needs_closure(optimizer):
        raise DataError(
            what="This optimizer takes no parameters that are thawed later.", where="fit(optimizer=..., thaw=...)",
            received=type(optimizer).__name__,
            do="use an optimizer with parameter groups, such as optimizer='adamw' or 'sgd'.",
        )  # fmt: skip
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    added: list[int | None] = []
    for parameters, share in groups:
        new = [parameter for parameter in parameters if id(parameter) not in held]
        if new:
            optimizer.add_param_group({"params": new, "lr": optimizer.param_groups[0]["lr"] * share})
        added.append(len(optimizer.param_groups) - 1 if new else None)
    return added


@contextmanager
def at_share(optimizer: Optimizer, number: int, share: float) -> Generator[None]:
    """Inside, this group of an optimizer has this share of its rate."""
    group = optimizer.param_groups[number]
    lr, group["lr"] = group["lr"], group["lr"] * share
    try:
        yield
    finally:
        group["lr"] = lr


def _following(optimizer: Optimizer) -> Optimizer:
    """The optimizer, its state where its parameters are now: they may have been moved or converted since a step."""
    moved = [
        value for parameter, state in optimizer.state.items() for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim()
        and (value.device, value.dtype) != (parameter.device, parameter.dtype)
    ]  # fmt: skip
    if moved:
        optimizer.load_state_dict(optimizer.state_dict())
    return optimizer


def needs_closure(optimizer: Any) -> bool:
    """True if `step` must be given a function that computes the loss again, as that of LBFGS must."""
    plain = getattr(optimizer, "optimizer", optimizer)  # Fabric's wrapper takes a closure in any case
    parameter = inspect.signature(type(plain).step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def check_closure(optimizer: Optimizer, *, precision: str, has_clip: bool, has_out: bool) -> None:
    """Raise if an optimizer that needs a closure is used with what it cannot be combined with.

    Raises:
        DataError: It names the argument to leave out.
    """
    if not needs_closure(optimizer):
        return
    given = "clip" if has_clip else "out" if has_out else "precision" if precision == "16-mixed" else None
    if given is not None:
        raise DataError(
            what=f"An optimizer that needs a closure cannot be used with {given}=.", where=f"fit({given}=...)",
            received=type(optimizer).__name__, do=f"leave out {given}=, or use optimizer='adamw'.",
        )  # fmt: skip


@contextmanager
def clipping_first(optimizer: Optimizer, clip: Clip | None) -> Generator[None]:
    """Inside, every step of the optimizer clips first, and so do its copies, each with norms of its own to remember.

    For recipes that step the optimizer, or copies of it, without knowing of a clip.
    """
    if clip is None:
        yield
        return
    own = copy.deepcopy(clip)

    def before_step(one: Optimizer, *_: Any) -> None:  # what a hook returns would replace the step's arguments
        own([parameter for group in one.param_groups for parameter in group["params"]])

    handle = optimizer.register_step_pre_hook(before_step)
    try:
        yield
    finally:
        handle.remove()


def make_scheduler(
    scheduler: str | Callable[[Optimizer], Any] | None, optimizer: Optimizer, epochs: int
) -> LRScheduler | None:
    """A schedule of the learning rate, stepped once per epoch: `cosine`, `linear`, `step` (a tenth at two thirds).

    Raises:
        DataError: If there is none of this name, or it has one rate for all groups although these have their own.
    """
    check_names(None, scheduler)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    made = _made_scheduler(scheduler, optimizer, epochs)
    if len(set(rates)) > 1 and len({float(group["lr"]) for group in optimizer.param_groups}) == 1:
        raise DataError(
            what="This scheduler sets one rate for all groups of the optimizer, which have rates of their own.",
            where="fit(scheduler=...)", received=f"{type(made).__name__} over {len(rates)} groups",
            do="let it keep each group's rate, as scheduler='cosine' does, or give it one rate per group (max_lr=[...] "
            "of OneCycleLR); with thaw=, the same rate for all blocks is frostline.ThawSchedule(..., factor=1).",
        )  # fmt: skip
    return made


def _made_scheduler(
    scheduler: str | Callable[[Optimizer], Any] | None, optimizer: Optimizer, epochs: int
) -> LRScheduler | None:
    if scheduler is None:
        return None
    if not isinstance(scheduler, str):
        made = check_callable("fit", "scheduler", scheduler, takes="(optimizer) -> scheduler, or a name")(optimizer)
        if not callable(getattr(made, "step", None)):
            raise DataError(
                what="The callable made no scheduler.", where="fit(scheduler=...)", received=f"a {type(made).__name__}",
                do="return a torch.optim.lr_scheduler.LRScheduler, made from the optimizer that the callable is given.",
            )  # fmt: skip
        return made
    known: dict[str, Callable[[], LRScheduler]] = {
        "cosine": lambda: CosineAnnealingLR(optimizer, T_max=epochs),
        "linear": lambda: LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=epochs),
        "step": lambda: StepLR(optimizer, step_size=max(1, 2 * epochs // 3), gamma=0.1),
    }
    return known[scheduler]()


def step_scheduler(scheduler: Any, train_loss: float, val_loss: float | None) -> None:
    """Step a schedule at the end of an epoch; one that waits for a plateau gets the loss, of validation if any."""
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(train_loss if val_loss is None else val_loss)
    elif scheduler is not None:
        scheduler.step()


def _unknown(kind: str, name: str, known: Iterable[str], callable_form: str) -> DataError:
    return DataError(
        what=f"There is no {kind} named {name!r}.", where=f"fit({kind}=...)", received=repr(name),
        do=f"use {', '.join(map(repr, known))}, or {callable_form}.",
    )  # fmt: skip
