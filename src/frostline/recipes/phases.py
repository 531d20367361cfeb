"""The phases of a run: epochs with one frost line each, planned before anything runs, and the line that moves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from frostline.core.errors import DataError
from frostline.core.layers import MODE, is_pinned
from frostline.core.restore import kept_modes
from frostline.recipes.line_steps import layers_to_freeze, layers_to_thaw
from frostline.recipes.schedules import FreezeSchedule, ThawSchedule
from frostline.training import Progress, add_groups, at_share, groups_of, needs_closure, put_back
from frostline.transfer import freeze, keep_statistics, passing_freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from frostline.core.records import FreezeSummary


@dataclass(frozen=True)
class Phase:
    """Epochs with one frost line; `print` it.

    Attributes:
        number: From 1.
        first_epoch: Counted from 1; None where the schedule's rule decides.
        change: What its beginning does to the line; "" in the first phase.
        parameters: Names of the parameters that begin to train, or stop.
        num_elements: In these.
        share: Of the learning rate of the first group; 1 in the first phase.
    """

    number: int
    first_epoch: int | None
    change: str = ""
    parameters: tuple[str, ...] = ()
    num_elements: int = 0
    share: float = 1.0

    def __str__(self) -> str:
        when = "by the rule" if self.first_epoch is None else f"from epoch {self.first_epoch}"
        what = f"{self.change} ({self.num_elements:,} parameters)" if self.change else "the line as it is"
        rate = f", rate {self.share:.3g} of the first" if self.share != 1.0 else ""
        return f"phase {self.number}, {when}: {what}{rate}"


class MovingLine:
    """The frost line of one run, and the schedule that moves it.

    Args:
        model: Frozen as the first phase has it.
        schedule: Moves the line; None: it stays, and the run is one phase.
        epochs: Of the run.
        has_val: There is validation data.
        inputs: callable() -> a few samples where the model is, by which a schedule by rule without layers finds them.

    Attributes:
        model: The model.
        plan: The phases in order, before anything runs; `print` them.
        trains: Names of the parameters that train in some phase.

    Raises:
        DataError: If the schedule does not fit the model or the run.
        LayerNotFound: If it names a layer that the model does not have.
    """

    def __init__(
        self, model: nn.Module, schedule: ThawSchedule | FreezeSchedule | None, *, epochs: int, has_val: bool,
        inputs: Callable[[], Any] = lambda: None,
    ) -> None:  # fmt: skip
        self.model, self._schedule, self._epochs = model, schedule, epochs
        self._own_modes: dict[nn.Module, bool] = {}  # of layers that were frozen, before that
        self._moves = _moves_of(model, schedule, inputs)
        with passing_freeze(model):
            first = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
            self.plan = (Phase(1, 1), *(self._planned(number) for number in range(len(self._moves))))
        self.trains = frozenset(first.union(*(phase.parameters for phase in self.plan)))
        self._made = 0
        self._groups: list[list[int]] = [[] for _ in self._moves]
        self._put_groups_back: Callable[[], None] = lambda: None
        self._optimizer: Optimizer | None = None
        self._before: dict[str, Tensor] = {}
        _check_run(schedule, self.plan, epochs, has_val=has_val)

    @property
    def is_moving(self) -> bool:
        """True if a schedule moves the line."""
        return bool(self._moves)

    @property
    def described(self) -> dict[str, Any]:
        """What a resumed run must have as well."""
        return {"schedule": str(self._schedule)} if self._schedule is not None else {}

    @contextmanager
    def settled(self) -> Generator[None]:
        """After the block modes are as before; layers that were thawed inside follow the mode of the model again.

        After an error, the optimizer has the groups that it had.
        """
        try:
            with kept_modes(self.model):
                yield
        except BaseException:
            self._put_groups_back()
            raise
        for module, own in self._own_modes.items():
            if not is_pinned(module):
                module.training = self.model.training and own
        for module in self.model.modules() if self._moves else ():
            if MODE in vars(module):
                module.training = False

    def check_average(self, ema: float | None) -> None:
        """Raise if weights are averaged that freeze later: features are stored of the weights, not of their average.

        Raises:
            DataError: It names the arguments.
        """
        if ema is not None and isinstance(self._schedule, FreezeSchedule):
            raise DataError(
                what="Weights that freeze while the model trains are not averaged.", where="fit(freeze=..., ema=...)",
                received=f"{self._schedule} with ema={ema:g}",
                do="leave out ema=, or freeze one layer for the whole run: freeze='LAYER'. A schedule that thaws "
                "(thaw=) takes ema=.",
            )  # fmt: skip

    def joined(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer, with the parameters that thaw later, a group for each thaw."""
        if isinstance(self._schedule, FreezeSchedule) and needs_closure(optimizer):
            raise DataError(
                what="An optimizer that needs a closure moves weights after they are frozen.", where="fit(freeze=...)",
                received=type(optimizer).__name__, do="use another optimizer, or freeze one layer for the whole run.",
            )  # fmt: skip
        if isinstance(self._schedule, ThawSchedule):
            named, self._optimizer = dict(self.model.named_parameters()), optimizer
            later = [([(name, named[name]) for name in phase.parameters], phase.share) for phase in self.plan[1:]]
            self._put_groups_back = groups_of(optimizer)
            self._groups = add_groups(optimizer, later)
            self.plan = (self.plan[0], *map(self._with_rate, self.plan[1:], self._groups))
        return optimizer

    def _with_rate(self, phase: Phase, groups: list[int]) -> Phase:
        """The phase with the rate that its layers have in the optimizer."""
        assert self._optimizer is not None
        rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        return replace(phase, share=rates[groups[0]] / rates[0]) if groups and rates[0] else phase

    def num_epochs(self, progress: Progress, *, of_run: bool = False) -> int:
        """Epochs that are left of the phase, at most, or of the run."""
        ahead = [epoch - 1 for epoch, _ in self._moves[self._made :] if epoch is not None and not of_run]
        return min([self._epochs, *ahead]) - len(progress.history)

    def length(self, progress: Progress) -> int:
        """Epochs of the present phase from its beginning, at most."""
        return self.num_epochs(progress) + len(progress.history) + 1 - self._begun(progress)

    @staticmethod
    def _begun(progress: Progress) -> int:
        return progress.moves[-1][0] if progress.moves else 1

    def phases(self, progress: Progress) -> Generator[Phase]:
        """The phases in turn, from where the progress is, one at least; the line is moved before each.

        After the last, the model has the best weights, those of layers that were frozen since included.
        """
        for _ in range(progress.moves[-1][1] if progress.moves else 0):
            self._move()
        while True:
            if self._made < self._due(progress):
                self._move()
                progress.moves.append((len(progress.history) + 1, self._made))
                continue  # several may be due
            self._remember()
            yield self.plan[self._made]
            if len(progress.history) >= self._epochs or progress.stopped_early:
                put_back(self.model, progress.final)
                return

    def lines_below(self) -> Generator[int]:
        """The model at each line that is planned below this one, the lowest first; then it is at this one again.

        Each gives the number of epochs of its phase.

        Rows of a higher line are computed from those of a lower one, so that all of them cost one frozen pass. Lines
        that a rule may never reach are left out.
        """
        is_planned = isinstance(self._schedule, ThawSchedule) and not self._schedule.is_by_rule
        for last in range(len(self._moves), self._made, -1) if is_planned else ():
            with passing_freeze(self.model):
                for number in range(self._made, last):
                    self._moved(number)
                if not all(parameter.requires_grad for parameter in self.model.parameters()):
                    first, *later = [epoch for epoch, _ in self._moves[last - 1 :] if epoch is not None]
                    yield min([self._epochs + 1, *later]) - first

    def settings(self, progress: Progress, steps: int) -> dict[str, Any]:
        """Settings of the training loop for this phase.

        Args:
            progress: Of the run.
            steps: Of an epoch.
        """
        if not self.is_moving:
            return {}
        return {
            "trains": self.trains, "first_epoch": self._begun(progress),
            "is_over": lambda now: self._due(now) > self._made, "has_next": self._made < len(self._moves)
            and isinstance(self._schedule, ThawSchedule), "after_epoch": self._measure,
            "pace": partial(self._paced, list(progress.moves), steps),
        }  # fmt: skip

    def _move(self) -> FreezeSummary:
        """Move the line once more."""
        summary = self._moved(self._made)
        self._made += 1
        return summary

    def _moved(self, number: int) -> FreezeSummary:
        layer = self._moves[number][1]
        for module in self.model.modules():
            if MODE in vars(module):
                self._own_modes.setdefault(module, vars(module)[MODE])
        if not isinstance(self._schedule, ThawSchedule):
            return freeze(self.model, layer)
        summary = thaw(self.model, layer)
        if self._schedule.keep_statistics:
            keep_statistics(self.model, summary.parameters)
        return summary

    def _planned(self, number: int) -> Phase:
        """The phase that this move begins; the model is moved."""
        epoch, layer = self._moves[number]
        summary = self._moved(number)
        is_thaw = isinstance(self._schedule, ThawSchedule)
        _check_move(self.model, layer, summary, is_thaw=is_thaw)
        share = self._schedule.factor ** -(number + 1) if isinstance(self._schedule, ThawSchedule) else 1.0
        verb = f"thawed down to {layer!r}" if is_thaw else f"frozen through {layer!r}"
        named = dict(self.model.named_parameters())
        count = sum(named[name].numel() for name in summary.parameters)
        change = "the whole model thawed" if layer is None else verb
        return Phase(number + 2, epoch, change, summary.parameters, count, share)

    def _due(self, progress: Progress) -> int:
        """How many moves are made before the next epoch."""
        done, made = len(progress.history), self._made
        if self._schedule is None or made == len(self._moves):
            return made
        if not self._schedule.is_by_rule:
            return sum(epoch is not None and epoch <= done + 1 for epoch, _ in self._moves)
        if isinstance(self._schedule, ThawSchedule):
            since = max(progress.best_epoch, self._begun(progress) - 1)
            return made + (done - since >= self._schedule.patience)
        while made < len(self._moves) and self._has_converged(progress.measured.get(self.plan[made + 1].change, [])):
            made += 1
        return made

    # The rule of progressive freezing

    def _has_converged(self, updates: list[float]) -> bool:
        assert isinstance(self._schedule, FreezeSchedule)
        last = updates[-self._schedule.patience - 1 :]
        changes = [abs(now - before) / before if before else 0.0 for before, now in pairwise(last)]
        return len(changes) == self._schedule.patience and max(changes) < self._schedule.rate

    def _remember(self) -> None:
        """Keep the weights whose updates are measured."""
        if self._schedule is None or isinstance(self._schedule, ThawSchedule) or not self._schedule.is_by_rule:
            return
        named = dict(self.model.named_parameters())
        measured = [name for phase in self.plan[self._made + 1 :] for name in phase.parameters]
        self._before = {name: named[name].detach().clone() for name in measured}

    def _measure(self, progress: Progress) -> None:
        """Note the size of each block's update in the last epoch, divided by the learning rate."""
        if not self._before:
            return
        named, lr = dict(self.model.named_parameters()), progress.history[-1].lr
        for phase in self.plan[self._made + 1 :]:
            moved = [named[name].detach() - self._before[name] for name in phase.parameters]
            norm = float(torch.stack([change.double().norm() for change in moved]).norm())
            progress.measured.setdefault(phase.change, []).append(norm / lr if lr else 0.0)
        self._remember()

    # The warm-up of thawed layers

    @contextmanager
    def _paced(self, moves: list[tuple[int, int]], steps: int, epoch: int, step: int) -> Generator[None]:
        """A step in which layers that were thawed lately have a part of their rates."""
        warmup = self._schedule.warmup if isinstance(self._schedule, ThawSchedule) else 0.0
        length, optimizer = round(warmup * steps), self._optimizer
        with ExitStack() as stack:
            for first, number in moves if optimizer is not None else ():
                done = (epoch - first) * steps + step
                for group in self._groups[number - 1] if done < length else ():
                    assert optimizer is not None
                    stack.enter_context(at_share(optimizer, group, (done + 1) / (length + 1)))
            yield


def _moves_of(
    model: nn.Module, schedule: ThawSchedule | FreezeSchedule | None, inputs: Callable[[], Any]
) -> tuple[tuple[int | None, str | None], ...]:
    if schedule is None:
        return ()
    if schedule.is_by_rule and schedule.layers is None:
        is_thaw = isinstance(schedule, ThawSchedule)
        found: list[Any] = (layers_to_thaw if is_thaw else layers_to_freeze)(model, inputs())
        if not found:
            raise DataError(
                what=f"The schedule finds no layer to {'thaw' if is_thaw else 'freeze'}.",
                where=f"fit({'thaw' if is_thaw else 'freeze'}=...)",
                received="a model in which nothing is frozen by frostline.freeze" if is_thaw
                else "a model with no line below its output layer at which it can be frozen",
                do="freeze the lower layers first: fit(freeze='LAYER', thaw=...)." if is_thaw
                else "name the layers: frostline.FreezeSchedule('converged', layers=[...]).",
            )  # fmt: skip
        return tuple((None, layer) for layer in found)
    return schedule.moves


def _check_move(model: nn.Module, layer: str | None, summary: FreezeSummary, *, is_thaw: bool) -> None:
    """Raise if a move changes nothing, or leaves nothing on one side of the line."""
    named = repr(layer) if layer is not None else "the whole model"
    where = f"fit({'thaw' if is_thaw else 'freeze'}=...), {named}"
    if not summary.parameters:
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        state = "trainable already, or fixed before frostline.freeze" if is_thaw else "frozen already"
        raise DataError(
            what=f"The schedule moves the line to {named}, where nothing changes: its parameters are {state}.",
            where=where, received=f"{len(frozen)} frozen parameters{f', the last is {frozen[-1]!r}' if frozen else ''}",
            do="name layers from the top down, each below the line of the phase before; fit(freeze='LAYER') sets the "
            "first line." if is_thaw else "name layers from the bottom up, each above the line of the phase before.",
        )  # fmt: skip
    if is_thaw and layer is not None and not summary.num_frozen:
        raise DataError(
            what=f"After the thaw of {named} nothing is frozen: there is no frost line left.", where=where,
            received=f"{summary.num_parameters:,} parameters, all trainable",
            do="name None instead of the layer if the whole model is to train, or a layer higher up.",
        )  # fmt: skip
    if not is_thaw and summary.num_frozen == summary.num_parameters:
        raise DataError(
            what=f"After the freeze through {named} nothing is left to train.", where=where,
            received=f"{summary.num_parameters:,} parameters, all frozen", do="name a layer below the output layer.",
        )  # fmt: skip


def _check_run(
    schedule: ThawSchedule | FreezeSchedule | None, plan: tuple[Phase, ...], epochs: int, *, has_val: bool
) -> None:
    """Raise if the run is too short for the schedule, or lacks what its rule needs."""
    beyond = [phase.first_epoch for phase in plan if phase.first_epoch is not None and phase.first_epoch > epochs]
    if beyond:
        raise DataError(
            what="The schedule goes beyond the run.", where="fit(epochs=...)",
            received=f"{epochs} epochs, a move of the line before epoch {beyond[0]}",
            do=f"pass epochs={beyond[-1]} or more, or move the line earlier.",
        )  # fmt: skip
    if isinstance(schedule, ThawSchedule) and schedule.is_by_rule and not has_val:
        raise DataError(
            what="A plateau is seen on validation data, and there are none.", where="fit(thaw='plateau')",
            received="val=None", do="pass validation data (val=..., --val-share), or the epochs of each thaw: "
            "thaw={3: 'LAYER'}, --thaw 3:LAYER.",
        )  # fmt: skip
