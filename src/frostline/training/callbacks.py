"""Callbacks of a run: what they are given, when they are called, and what they must leave as it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from frostline.core.arguments import as_items, as_number
from frostline.core.errors import DataError, nearest
from frostline.core.restore import kept_modes
from frostline.training.fabric import log_figures

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from frostline.core.records import Epoch
    from frostline.training.checkpoints import Progress

HOOKS = ("on_train_start", "on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "on_train_end")


class RunState:
    """A run, as a callback sees it; the one argument of every hook.

    Attributes:
        model: The user's model. Weights of layers that train may be read and written.
        module: What is called on a batch: the head over stored features, or the model itself.
        optimizer: Its learning rates may be changed.
        epoch: That runs, or has just ended; counted from 1.
        step: Steps of the optimizer since the beginning of the run.
        loss: Of the last step, or None.
        history: One record for each epoch that has ended.
    """

    def __init__(self, model: nn.Module, fabric: Any) -> None:
        self.model, self._fabric = model, fabric
        self.module: nn.Module | None = None
        self.optimizer: Optimizer | None = None
        self.epoch = self.step = 0
        self.loss: Tensor | None = None
        self.history: tuple[Epoch, ...] = ()
        self.is_stopped = False

    def stop(self) -> None:
        """End the run after this epoch, which is validated and saved."""
        self.is_stopped = True

    def log(self, figures: Mapping[str, float | Tensor]) -> None:
        """Give figures to the loggers of the run, at this step."""
        plain = {name: value.detach() if isinstance(value, Tensor) else value for name, value in figures.items()}
        numbers = {name: as_number("run.log", name, value) for name, value in plain.items()}
        log_figures(self._fabric, numbers, self.step)


class Callbacks:
    """The callbacks of one run.

    Args:
        given: As `fit` takes them.

    Attributes:
        stateful: Those that remember something, by name: checkpoints hold it.

    Raises:
        DataError: If one has no hook of these, or one that takes other arguments.
    """

    def __init__(self, given: Any = ()) -> None:
        self._given = as_items("fit", "callbacks", given)
        for callback in self._given:
            _check(callback)
        self._hooks = {hook: [one for one in self._given if callable(getattr(one, hook, None))] for hook in HOOKS}
        self.stateful = {f"callback {at}, {type(one).__name__}": one for at, one in enumerate(self._given)}
        self.state: RunState | None = None

    def begin(
        self, model: nn.Module, module: nn.Module, optimizer: Optimizer, fabric: Any, progress: Progress, per_epoch: int
    ) -> None:  # fmt: skip
        """A phase begins, with so many steps in an epoch; a run begins with its first phase."""
        num_epochs = len(progress.history)
        now = {"module": module, "optimizer": optimizer, "epoch": num_epochs, "step": num_epochs * per_epoch,
               "history": tuple(progress.history)}  # fmt: skip
        if self.state is not None:
            vars(self.state).update(now)
            return
        self.state = RunState(model, fabric)
        self.call("on_train_start", **now)

    @property
    def is_stopped(self) -> bool:
        """True if one of them has ended the run."""
        return self.state is not None and self.state.is_stopped

    def call(self, hook: str, **now: Any) -> None:
        """Call a hook of all callbacks, after the state has these values.

        Raises:
            DataError: If one of them has changed which parameters train.
        """
        state = self.state
        if state is None:
            return
        for name, value in now.items():
            setattr(state, name, value)
        for callback in self._hooks[hook]:
            before = [parameter.requires_grad for parameter in state.model.parameters()]
            with kept_modes(state.model), kept_modes(state.module or state.model):
                getattr(callback, hook)(state)
            after = {name: parameter.requires_grad for name, parameter in state.model.named_parameters()}
            moved = [name for (name, now_), old in zip(after.items(), before, strict=True) if now_ != old]
            if moved:
                raise _moved(f"{type(callback).__name__}.{hook}", moved)


def _moved(place: str, names: Sequence[str]) -> DataError:
    return DataError(
        what="A callback moved the frost line: other parameters train than the split was made for.", where=place,
        received=f"requires_grad of {', '.join(map(repr, names[:3]))}" + (" and more" if len(names) > 3 else ""),
        do="give fit a schedule, which moves the stored features too: thaw={5: 'LAYER'} or freeze={5: 'LAYER'}.",
    )  # fmt: skip


def _check(callback: Any) -> None:
    name = callback.__name__ if isinstance(callback, type) else type(callback).__name__
    found = {hook: getattr(callback, hook, None) for hook in HOOKS}
    for hook, method in found.items():
        if callable(method) and (isinstance(callback, type) or not _takes_one(method)):
            is_class = isinstance(callback, type)
            raise DataError(
                what="This callback cannot be called with the run.", where="fit(callbacks=...)",
                received=f"the class {name}" if is_class else f"{name}.{hook}{inspect.signature(method)}",
                do=f"make one first: callbacks=[{name}()]." if is_class else
                f"write a class with {hook}(self, run): run.model, run.optimizer, run.history, run.log({{...}}).",
            )  # fmt: skip
    others = [one for one in dir(callback) if one.startswith("on_") and one not in HOOKS]
    if others or not any(callable(method) for method in found.values()):
        raise DataError(
            what="This callback has no method that fit calls." if not others else
            f"This callback has a method that fit never calls: {others[0]}.", where="fit(callbacks=...)",
            received=name, do=f"name it {nearest(others[0] if others else '', HOOKS)}: fit calls {', '.join(HOOKS)}.",
        )  # fmt: skip


def _takes_one(method: Callable[..., Any]) -> bool:
    try:
        inspect.signature(method).bind(None)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True
