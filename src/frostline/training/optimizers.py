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


# Groups for layers that thaw later exist from the beginning, since a scheduler reads the base rates of all groups
# when it is made; without gradients the optimizer leaves them out.
def add_groups(
    optimizer: Optimizer, groups: Sequence[tuple[Sequence[tuple[str, nn.Parameter]], float]]
) -> list[list[int]]:
    """Give parameters that will train later groups of their own; until then they have no gradient.

    An optimizer leaves out what has no gradient, and a scheduler that is made now has the base rates of all groups.

    Args:
        optimizer: It keeps its state, to the bit.
        groups: (parameters with their names, share of the rate that they train with). Parameters that the optimizer
            does not hold get this share of the first group's rate. Those that it holds leave their group, and get this
            share of its rate; but where no parameter of that group trains yet, the group has a rate of its own, which
            stays.

    Returns:
        For each entry the numbers of its groups.

    Raises:
        DataError: If the optimizer needs a closure: it takes one group only.
    """
    if groups and needs_closure(optimizer):
        raise DataError(
            what="This optimizer takes no parameters that are thawed later.", where="fit(optimizer=..., thaw=...)",
            received=type(optimizer).__name__,
            do="use an optimizer with parameter groups, such as optimizer='adamw' or 'sgd'.",
        )  # fmt: skip
    return [_own_groups(optimizer, parameters, share) for parameters, share in groups]


def _own_groups(optimizer: Optimizer, parameters: Sequence[tuple[str, nn.Parameter]], share: float) -> list[int]:
    """The numbers of groups with these parameters alone, which are made where there are none."""
    missing = {id(parameter): (name, parameter) for name, parameter in parameters}
    found: list[int] = []
    for at, group in enumerate([*optimizer.param_groups]):
        taken = [missing.pop(id(parameter), None) for parameter in group["params"]]
        held = [entry for entry in taken if entry is not None]
        if held and len(held) < len(taken):
            rest = [parameter for parameter, entry in zip(group["params"], taken, strict=True) if entry is None]
            own = share if any(parameter.requires_grad for parameter in rest) else 1.0
            rates = {name: group[name] * own for name in ("lr", "initial_lr") if name in group}
            options = {name: value for name, value in group.items() if name != "param_names"} | rates
            _keep(group, [entry is None for entry in taken])
            at = _add_group(optimizer, held, options)
        found += [at] if held else []
    if missing:
        rate = optimizer.param_groups[0]["lr"] * share
        found.append(_add_group(optimizer, [*missing.values()], {"lr": rate}))
    return found


def _keep(group: dict[str, Any], chosen: list[bool]) -> None:
    for name in {"params", "param_names"} & group.keys():
        group[name] = [entry for entry, is_kept in zip(group[name], chosen, strict=True) if is_kept]


def _add_group(optimizer: Optimizer, parameters: list[tuple[str, nn.Parameter]], options: dict[str, Any]) -> int:
    is_named = "param_names" in optimizer.param_groups[0]
    own = parameters if is_named else [parameter for _, parameter in parameters]
    optimizer.add_param_group({**options, "params": own})
    return len(optimizer.param_groups) - 1


def groups_of(optimizer: Optimizer) -> Callable[[], None]:
    """What puts the groups of an optimizer back: those that were added since go, with the state of what they added."""
    before = [(group, {name: [*group[name]] for name in {"params", "param_names"} & group.keys()})
              for group in optimizer.param_groups]  # fmt: skip
    held = {id(parameter) for _, kept in before for parameter in kept["params"]}

    def put_back() -> None:
        optimizer.param_groups[:] = [group for group, _ in before]
        for group, kept in before:
            group.update(kept)
        for parameter in [one for one in optimizer.state if id(one) not in held]:
            del optimizer.state[parameter]

    return put_back


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


def check_closure(
    optimizer: Optimizer, *, is_scaled: bool, has_clip: bool, has_out: bool, has_groups: bool = False
) -> None:
    """Raise if an optimizer that needs a closure is used with what it cannot be combined with.

    Raises:
        DataError: It names the argument to leave out.
    """
    if not needs_closure(optimizer):
        return
    scaled = "precision" if is_scaled else None
    given = "clip" if has_clip else "out" if has_out else "accumulation" if has_groups else scaled
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
    scheduler: str | Callable[[Optimizer], Any] | None, optimizer: Optimizer, length: int, *, is_per_epoch: bool = True
) -> LRScheduler | None:
    """A schedule of the learning rate: `cosine`, `linear`, `step` (a tenth at two thirds).

    Args:
        scheduler: Its name, or callable(optimizer).
        optimizer: Whose rates it sets.
        length: How often it is stepped: once per epoch, or once per step.
        is_per_epoch: Once per epoch, with the losses of the epoch at hand.

    Raises:
        DataError: If there is none of this name, it waits for a loss that a step does not have, or it has one rate for
            all groups although these have their own.
    """
    check_names(None, scheduler)
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    made = _made_scheduler(scheduler, optimizer, length)
    if isinstance(made, ReduceLROnPlateau) and not is_per_epoch:
        raise DataError(
            what="This scheduler waits for a plateau of the validation, which is computed once per epoch.",
            where="fit(scheduler_interval='step')", received=type(made).__name__,
            do="leave out scheduler_interval, or pass a scheduler that counts steps.",
        )  # fmt: skip
    if len(set(rates)) > 1 and len({float(group["lr"]) for group in optimizer.param_groups}) == 1:
        raise DataError(
            what="This scheduler sets one rate for all groups of the optimizer, which have rates of their own.",
            where="fit(scheduler=...)", received=f"{type(made).__name__} over {len(rates)} groups",
            do="let it keep each group's rate, as scheduler='cosine' does, or give it one rate per group (max_lr=[...] "
            "of OneCycleLR); with thaw=, the same rate for all blocks is frostline.ThawSchedule(..., factor=1).",
        )  # fmt: skip
    return made


def _made_scheduler(
    scheduler: str | Callable[[Optimizer], Any] | None, optimizer: Optimizer, length: int
) -> LRScheduler | None:
    if scheduler is None:
        return None
    if not isinstance(scheduler, str):
        made = _called_scheduler(scheduler, optimizer)
        if not callable(getattr(made, "step", None)):
            raise DataError(
                what="The callable made no scheduler.", where="fit(scheduler=...)", received=f"a {type(made).__name__}",
                do="return a torch.optim.lr_scheduler.LRScheduler, made from the optimizer that the callable is given.",
            )  # fmt: skip
        return made
    known: dict[str, Callable[[], LRScheduler]] = {
        "cosine": lambda: CosineAnnealingLR(optimizer, T_max=length),
        "linear": lambda: LinearLR(optimizer, start_factor=1.0, end_factor=0.01, total_iters=length),
        "step": lambda: StepLR(optimizer, step_size=max(1, 2 * length // 3), gamma=0.1),
    }
    return known[scheduler]()


def _called_scheduler(scheduler: Callable[[Optimizer], Any], optimizer: Optimizer) -> Any:
    make = check_callable("fit", "scheduler", scheduler, takes="(optimizer) -> scheduler, or a name")
    try:
        return make(optimizer)
    except ValueError as error:
        if len(optimizer.param_groups) == 1 or "expected" not in str(error).lower():
            raise
        raise DataError(
            what="The scheduler does not take this number of groups of the optimizer.", where="fit(scheduler=...)",
            received=f"{error}; {len(optimizer.param_groups)} groups",
            do="give it one entry per group, or one for all; with thaw=, the layers of each thaw are a group.",
        ) from error  # fmt: skip


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
