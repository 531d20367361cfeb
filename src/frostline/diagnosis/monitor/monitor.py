"""Listens to any training loop: numbers by layer on sampled steps, and what the rules say about them."""

from __future__ import annotations

from collections import deque
from functools import partial
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from frostline.core.arguments import as_number, as_path, check_callable, check_model
from frostline.core.errors import DataError
from frostline.core.inputs import describe
from frostline.core.steps import check_dense, is_optimizer
from frostline.diagnosis.monitor.accumulation import Accumulation
from frostline.diagnosis.monitor.evidence import SeenInputs, facts_of_optimizer, layers_that_ran, what_is_missing
from frostline.diagnosis.monitor.gradients import Step, Weights
from frostline.diagnosis.monitor.hooks import Watch
from frostline.diagnosis.monitor.loop_steps import LoopSteps
from frostline.diagnosis.monitor.overhead import Account
from frostline.diagnosis.monitor.rates import Rates
from frostline.diagnosis.monitor.sampling import Laboratory, Sample
from frostline.diagnosis.monitor.streaming import JsonLines
from frostline.diagnosis.probes.symmetry import copies
from frostline.diagnosis.probes.unheld_parameters import Unheld
from frostline.diagnosis.probes.zero_starts import ZeroStarts, zero_starts
from frostline.diagnosis.rules.judge import judge_loop
from frostline.diagnosis.rules.records import Evidence, StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.optim import Optimizer

    from frostline.core.records import Diagnosis, Finding

_KEPT_FIRST, _KEPT_LAST = 50, 450  # sampled steps in memory, so that a long run does not fill it
_KEPT_LOSSES = 10_000
_UNREAD_LOSSES = 1_000  # on the device, where samples are far apart
_UNWRITTEN = 8  # sampled steps after which the file and the logger get them
_MOST = 2**1000  # beyond, a whole number is no float
_BUDGET, _FREE_SAMPLES = 0.03, 10  # of the time of the loop: beyond it samples are left out; but for the first ones
# Steps in which units that start at zero part: Adam's first step moves all by the same amount, up or down, and a zero
# layer behind another zero layer gets its first gradient a step later.
_PARTED = 10


class Monitor:
    """Measures a model while any loop trains it, and reports findings.

    In any loop::

        with fl.Monitor(model, optimizer, every=10) as monitor:
            for inputs, target in loader:
                loss = loss_fn(model(inputs), target)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.step(loss)
        print(monitor.diagnosis)

    Every hook is gone when the block ends. With an optimizer, gradients are read as it uses them: unscaled, clipped,
    accumulated, before anybody clears them. Without one, `step(loss)` reads them: call it between backward and
    zero_grad, once per step. Layers without trainable parameters are known as frozen; tied weights count once.

    Args:
        model: The module that the loop calls; a DistributedDataParallel or compiled module is looked into.
        optimizer: The one that steps, or None.
        every: Steps from one sample to the next.
        budget: Share of the loop's time that samples after the first ten may take. Near it samples are taken without
            outputs of layers, which cost most (their fields are None); beyond it they are left out (see `samples`).
        path: A file to which every record is written as one line of JSON; it must not exist yet.
        log: callable(numbers, step): a logger, such as Fabric's `log_dict`.

    Raises:
        DataError: If the model has nothing to train, or the optimizer trains none of it.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None = None, every: int = 10, *,
        budget: float = _BUDGET, path: str | Path | None = None,
        log: Callable[[dict[str, float], int], None] | None = None,
    ) -> None:  # fmt: skip
        check_model("Monitor", model, needs=())
        inner, self._unseen = _unwrapped(model)
        check_model("Monitor", inner, needs=("values", "training"))
        _check_plain(inner)
        _check(inner, optimizer, every)
        if budget != float("inf"):  # no limit
            budget = as_number("Monitor", "budget", budget)
        path = as_path("Monitor", "path", path) if path is not None else None
        if log is not None:
            check_callable("Monitor", "log", log, takes="(numbers, step)")
        self.every, self._budget, self._optimizer, self._log = every, budget, optimizer, log
        self._model = inner
        self._account = Account()
        self._watch = Watch(inner, self._account)
        self._weights = Weights(self._watch.found)
        self._laboratory = Laboratory(self._watch, self._weights)
        self._accumulation = Accumulation(inner, optimizer)
        self._unheld = Unheld(self._watch.found, inner, optimizer)
        self._rates = Rates(optimizer)
        self._loop = LoopSteps(inner, optimizer)
        self._is_on, self._is_quiet_from, self._next = False, -1, 0  # steps up to the next need nothing
        self._open, self._stream = partial(JsonLines, path) if path is not None else None, None
        self._first: list[Sample] = []
        self._last: deque[Sample] = deque(maxlen=_KEPT_LAST)
        self._unwritten: list[Sample] = []  # to the file and the logger
        self._losses: deque[tuple[int, float]] = deque(maxlen=_KEPT_LOSSES)
        self._unread_losses: list[tuple[int, Tensor | float]] = []
        self._free_s = self._reserve_s = 0.0  # spent on these; kept for gradients when outputs get too dear
        self._num_steps = self._asked = self._taken = 0
        self._is_numbered_from_one: bool | None = None  # loops report the loss of a step after or before it
        self._inputs = SeenInputs(self._watch.found, inner)
        self._copies: dict[str, float] = {}
        self._zeros = ZeroStarts()
        self._step: Step | None = None
        self._handles: list[Any] = []
        self._sampled: Any = None  # the hook before a sampled step

    def __enter__(self) -> Monitor:
        self._copies, self._zeros = copies(self._watch.found), zero_starts(self._watch.found)
        self._stream = self._open() if self._open is not None else None
        if self._optimizer is not None:
            self._handles = [self._optimizer.register_step_post_hook(self._after_step)]
        self._accumulation.attach()
        self._account.resume()
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._account.pause()
        self._stop_listening()
        self._accumulation.remove()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._step = None
        try:
            self._tell()
        finally:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def step(self, loss: Tensor | float) -> None:
        """Tell the loss of a step; without an optimizer, gradients are read now.

        Raises:
            DataError: If the loss is not a scalar.
        """
        started = self._account.clock() if self._is_quiet_from == self._num_steps else None  # it stands for the others
        value = loss
        if isinstance(loss, Tensor):
            if loss.numel() != 1 or loss.is_complex() or loss.is_meta or loss.layout is not torch.strided:
                raise DataError(
                    what="The loss is not a scalar.", where="Monitor.step(loss)",
                    received=describe(loss),
                    do="pass the mean or the sum that backward() was called on.",
                )  # fmt: skip
            value = loss.item() if loss.is_cpu else loss.detach()  # elsewhere, to read it now would be to wait for it
        elif not isinstance(loss, Real) or (isinstance(loss, int) and abs(loss) > _MOST):
            raise DataError(
                what="The loss is not a scalar.", where="Monitor.step(loss)", received=describe(loss),
                do="pass what backward() was called on, or its value.",
            )  # fmt: skip
        self._unread_losses.append((self._num_steps, value))
        self._loop.look(self._num_steps)
        if len(self._unread_losses) >= _UNREAD_LOSSES:
            self._read_losses()
        if started is not None:
            self._account.own(started, times=self.every)
        if self._optimizer is None:
            self._before_step()
            self._after_step()

    @property
    def records(self) -> tuple[StepRecord, ...]:
        """The sampled steps, oldest first; of a long run the first 50 and the last 450."""
        self._read_losses()
        self._laboratory.measure()
        return tuple(sample.record(self._watch.order) for sample in (*self._first, *self._last))

    @property
    def overhead(self) -> float:
        """The monitor's own share of the time since the block began, 0 to 1.

        The time in its own functions, and what sampled steps take longer than the others beyond that.
        """
        elapsed = self._account.elapsed_s
        return min(1.0, self._account.spent_s / elapsed) if elapsed else 0.0

    @property
    def samples(self) -> tuple[int, int]:
        """(taken, asked): samples are left out where they would cost more than 3% of the time."""
        return self._taken, self._asked

    @property
    def evidence(self) -> Evidence:
        """Everything that was measured, as the rules read it."""
        records = self.records
        return Evidence(
            layers=layers_that_ran(self._watch.found, self._watch.order, self._watch.heads or frozenset(), self._zeros),
            records=records,
            losses=tuple(self._losses),
            optimizer=facts_of_optimizer(self._optimizer),
            inputs=self._inputs.facts(self._watch.order),
            alike=self._still_alike(),
            has_accumulated=self._accumulation.verdict,
            loop=self._loop.facts(len(self._losses), self._num_steps, self._accumulation),
            own_targets=self._loop.own_targets(self._num_steps),
            unheld=self._unheld.layers(self._num_steps),
            holds_strangers=self._unheld.holds_strangers,
            rates=self._rates.facts(self._num_steps),
            unseen=(
                *self._unseen,
                *what_is_missing(records, has_optimizer=self._optimizer is not None, expects_outputs=not self._unseen),
            ),
        )

    @property
    def unseen(self) -> tuple[str, ...]:
        """What could not be measured, and why: findings say nothing about it."""
        return self.evidence.unseen

    @property
    def diagnosis(self) -> Diagnosis:
        """What the rules say about it; causes are not tried here (`frostline.checkup` does)."""
        return judge_loop(self.evidence)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Issues and tips, most severe first."""
        return self.diagnosis.findings

    def _listen(self) -> None:
        """Decide whether the next step is a sample, and whether it may cost as much as to look at outputs."""
        self._asked += 1
        self._rates.look(self._num_steps)
        spent_s, allowed_s = self._account.spent_s, self._budget * self._account.elapsed_s
        is_free = self._asked <= _FREE_SAMPLES
        if is_free:
            self._free_s, self._reserve_s = spent_s, allowed_s / 2
        left_s = allowed_s - (spent_s - self._free_s)
        self._is_on = is_free or left_s >= 0
        if self._is_on:
            self._account.before_sample(self._num_steps)
            if not self._unseen:
                self._watch.attach(only_input=not is_free and left_s < self._reserve_s)
            if self._optimizer is not None and self._sampled is None:  # each hook costs microseconds at every step
                self._sampled = self._optimizer.register_step_pre_hook(self._before_step)

    def _stop_listening(self) -> None:
        self._is_on = False
        self._watch.remove()
        if self._sampled is not None:
            self._sampled.remove()
            self._sampled = None

    def _before_step(self, *_: object) -> None:
        if not self._is_on:
            return
        started = self._account.clock()
        self._step = Step(self._weights)
        self._step.before(scale=getattr(self._optimizer, "grad_scale", None))  # fused optimizers unscale on their own
        self._unheld.look()
        self._account.own(started)

    def _after_step(self, *_: object) -> None:
        self._num_steps += 1
        if self._num_steps < self._next:
            return
        started = self._account.clock()
        step, self._step = self._step, None
        if step is not None:
            self._is_quiet_from = self._num_steps + 1
            self._close_sample(step)
        self._accumulation.stepped()
        self._account.own(started)
        if self._num_steps == self._is_quiet_from:
            self._account.after_sample(self._num_steps)
        to_next = -self._num_steps % self.every
        if not to_next:
            started = self._account.clock()
            self._listen()
            self._account.own(started)
        is_busy = self._is_on or self._num_steps < self._is_quiet_from or not self._accumulation.is_done
        self._next = self._num_steps + (1 if is_busy else to_next or self.every)

    def _close_sample(self, step: Step) -> None:
        if self._optimizer is not None:
            step.after()
        self._stop_listening()
        self._inputs.add(self._watch.input)
        self._watch.input = None
        sample = Sample(self._num_steps - 1, self._watch.take(), step)
        (self._first if len(self._first) < _KEPT_FIRST else self._last).append(sample)
        self._laboratory.add(sample)
        self._taken += 1
        if self._stream is not None or self._log is not None:
            if len(self._unwritten) >= _UNWRITTEN:
                self._tell()
            self._unwritten.append(sample)

    def _tell(self) -> None:
        """Records to the file and to the logger. Without these, numbers stay on the device until they are read."""
        if not self._unwritten:
            return
        self._read_losses()
        self._laboratory.measure()
        unwritten, self._unwritten = self._unwritten, []
        for record in [sample.record(self._watch.order) for sample in unwritten]:
            if self._stream is not None:
                self._stream.write(record)
            if self._log is not None:
                numbers = {f"{sample.layer}/gradient_norm": sample.gradient_norm for sample in record.layers}
                self._log({name: value for name, value in numbers.items() if value is not None}, record.step)

    def _read_losses(self) -> None:
        waiting, self._unread_losses = self._unread_losses, []
        if not waiting:
            return
        if self._is_numbered_from_one is None:
            self._is_numbered_from_one = waiting[0][0] > 0
        tensors = [value.reshape(()).float() for _, value in waiting if isinstance(value, Tensor)]
        read = iter(torch.stack(tensors).tolist() if tensors else ())
        numbers = [number - self._is_numbered_from_one for number, _ in waiting]
        values = [next(read) if isinstance(value, Tensor) else float(value) for _, value in waiting]
        self._losses.extend(zip(numbers, values, strict=True))
        loss_of = dict(zip(numbers, values, strict=True))
        for sample in (*self._first, *self._last):
            sample.loss = loss_of.get(sample.number, sample.loss)

    def _still_alike(self) -> tuple[tuple[str, float], ...]:
        now = copies(self._watch.found) if self._num_steps and any(self._copies.values()) else {}
        shares = self._copies.items() if self._num_steps >= _PARTED else self._zeros.without(self._copies)
        return tuple((name, min(share, now[name])) for name, share in shares if now.get(name) and share)


def _unwrapped(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The module inside of wrappers, and what cannot be seen of it."""
    unseen: tuple[str, ...] = ()
    while True:
        if hasattr(model, "_orig_mod"):
            unseen = ("the model is compiled: outputs of its layers are not seen, gradients and updates are",)
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        else:
            return model, unseen


def _check_plain(model: nn.Module) -> None:
    name = next((n for n, part in model.named_modules() if isinstance(part, torch.jit.ScriptModule)), None)
    if name is not None:
        raise DataError(
            what="A scripted module takes no hooks, so that its gradients cannot be watched.", where="Monitor(model)",
            received=f"a ScriptModule at {name!r}" if name else "a ScriptModule",
            do="watch the module that it was made from, before torch.jit.script.",
        )  # fmt: skip


def _check(model: nn.Module, optimizer: Optimizer | None, every: int) -> None:
    if optimizer is not None and not is_optimizer(optimizer):
        raise DataError(
            what="The monitor cannot listen to that optimizer.", where="Monitor(model, optimizer)",
            received=f"the class {optimizer.__name__}" if isinstance(optimizer, type) else type(optimizer).__name__,
            do="make it first, optimizer = torch.optim.AdamW(model.parameters()), and pass it.",
        )  # fmt: skip
    lazy = next((name for name, parameter in model.named_parameters() if is_lazy(parameter)), None)
    if lazy is not None:
        raise DataError(
            what="The model has a layer whose shape is not known yet.", where=lazy, received="a lazy parameter",
            do="run the model on a batch once, model(inputs), before it is watched.",
        )  # fmt: skip
    check_dense(model)
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if not isinstance(every, Integral) or every < 1:
        raise DataError(
            what="The monitor needs a distance between samples.", where="Monitor(every=...)", received=repr(every),
            do="pass every=10, or 1 for every step.",
        )  # fmt: skip
    if not trainable:
        raise DataError(
            what="The model has nothing to train: there are no gradients to watch.", where=type(model).__name__,
            received=f"{sum(1 for _ in model.parameters())} parameters, none of which requires gradients",
            do="let something train, such as model.requires_grad_(True), or watch the module that does.",
        )  # fmt: skip
    if optimizer is not None:
        held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not held & trainable:
            raise DataError(
                what="The optimizer does not hold the model's parameters (FL405).", where=type(optimizer).__name__,
                received=f"{len(held)} parameters, none of them trainable ones of {type(model).__name__}",
                do="make the optimizer from model.parameters(), after the model has been built and moved.",
            )  # fmt: skip
