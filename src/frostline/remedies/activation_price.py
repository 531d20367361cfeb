"""What another activation costs and gains, measured on this model and this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostline.core import inputs as model_inputs
from frostline.core.activations import BY_NAME, is_kind, kind_of, label
from frostline.core.arguments import as_count, as_items, check_callable, check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.restore import generator_states, kept_generators, set_generator_states
from frostline.core.steps import check_loss, copied, take_step
from frostline.core.timing import interleaved, timed
from frostline.remedies.activations import swap_activations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from frostline.core.activations import Activation

_PREDICTIONS = 15  # rounds of predictions that are timed; chosen by us


@dataclass(frozen=True)
class ActivationPrice:
    """What one activation costs and gains.

    Attributes:
        name: The activation; the first price is that of the one the model has.
        step_s: Median seconds of a training step.
        predict_s: Median seconds of a prediction of one batch.
        steps_to_loss: Steps until the loss that the current activation had at the end, or None if never reached.
        time_to_loss_s: Seconds of these steps.
        final_loss: Training loss at the end, the mean over the last tenth of the steps.
    """

    name: str
    step_s: float
    predict_s: float
    steps_to_loss: int | None
    time_to_loss_s: float | None
    final_loss: float


class PriceTable(tuple[ActivationPrice, ...]):
    """Prices that print as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        lines = [
            f"{'activation':<24}{'step ms':>9}{'predict ms':>12}{'final loss':>12}{'steps to loss':>15}{'seconds':>9}"
        ]
        for price in self:
            steps = "not reached" if price.steps_to_loss is None else str(price.steps_to_loss)
            seconds = "" if price.time_to_loss_s is None else f"{price.time_to_loss_s:.2f}"
            lines.append(
                f"{price.name:<24}{price.step_s * 1e3:>9.2f}{price.predict_s * 1e3:>12.2f}{price.final_loss:>12.4f}"
                f"{steps:>15}{seconds:>9}"
            )
        return "\n".join(lines)


@dataclass
class _Runner:
    name: str
    model: nn.Module
    optimizer: Optimizer
    times: list[float] = field(default_factory=lambda: list[float]())
    losses: list[float] = field(default_factory=lambda: list[float]())


@public("price_activations")
def price_activations(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Callable[[Any, Any], Tensor],
    *,
    candidates: Sequence[Activation],
    optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None = None,
    steps: int = 200,
    old: str | type[nn.Module] | None = None,
) -> PriceTable:
    """Train copies of the model side by side, each with another activation, and measure what that costs and gains.

    All copies start from the same weights and see the same batches with the same noise; steps are timed in turns. The
    caller's model, optimizer and generators are left as they are. It needs the memory of one more model for each
    candidate and one for the current activation.

    Args:
        model: Copied, never changed.
        batches: `(inputs, target)` pairs, a finite iterable, kept in memory and repeated.
        loss_fn: callable(output, target) -> scalar.
        candidates: Names, classes, instances or factories, as `swap_activations` takes them.
        optimizer: Your optimizer, copied with its state, or callable(parameters); None is AdamW with lr 1e-3.
        steps: Training steps of each copy.
        old: The activation that is swapped; None is the one that the model has most modules of.

    Returns:
        One price for the current activation and one for each candidate, in this order.

    Raises:
        DataError: If the model has no activation module or cannot be copied, there are no batches, no candidates or no
            steps, or a loss is no scalar or not finite from the start.

    References:
        Clevert, Unterthiner, Hochreiter (2016), Fast and accurate deep network learning by exponential linear units.
    """
    check_model("price_activations", model)
    check_callable("price_activations", "loss_fn", loss_fn, takes="(output, target) -> scalar")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        check_callable("price_activations", "optimizer", optimizer, takes="(parameters) -> optimizer, or an optimizer")
    steps = as_count("price_activations", "steps", steps, least=0)
    with kept_generators():  # a loader that shuffles draws
        items = as_items("price_activations", "batches", batches)
    candidates = as_items("price_activations", "candidates", candidates)
    if not items or not candidates or steps < 1:
        raise DataError(
            what="There is nothing to price.", where="price_activations(model, batches, ...)",
            received=f"{len(items)} batches, {len(candidates)} candidates, {steps} steps",
            do="pass a batch, a candidate and a step at least.",
        )  # fmt: skip
    kind = kind_of(old) if old is not None else _most_common(model)
    with kept_generators():
        runners = [_runner(model, optimizer, kind, None), *(_runner(model, optimizer, kind, c) for c in candidates)]
        pairs = _on_device(model, items)
        for at, (inputs, target) in enumerate(islice(cycle(pairs), steps)):
            states = generator_states()
            for place in range(len(runners)):
                set_generator_states(states)
                _step(runners[(at + place) % len(runners)], inputs, target, loss_fn)
        predictions = interleaved([_prediction(runner.model, pairs[0][0]) for runner in runners], rounds=_PREDICTIONS)
    goal = _ending(runners[0].losses)
    if not goal == goal:
        raise DataError(
            what="The loss of the current activation is not finite.", where="price_activations(loss_fn=...)",
            received=f"{goal}", do="lower the learning rate, or cure the model before its activations are compared.",
        )  # fmt: skip
    return PriceTable(_price(runner, median(times), goal) for runner, times in zip(runners, predictions, strict=True))


def _runner(
    model: nn.Module, optimizer: Optimizer | Callable[[list[nn.Parameter]], Optimizer] | None, kind: type[nn.Module],
    candidate: Activation | None,
) -> _Runner:  # fmt: skip
    """A copy of model and optimizer with the candidate in place."""
    own: Optimizer | None
    twin, own = copied(model, optimizer if isinstance(optimizer, Optimizer) else None)
    twin.train(model.training or not any(module.training for module in model.modules()))
    if candidate is not None:
        swap_activations(twin, kind, candidate, optimizer=own)
    if own is None:
        trainable = [parameter for parameter in twin.parameters() if parameter.requires_grad]
        make = optimizer if optimizer is not None and not isinstance(optimizer, Optimizer) else _adamw
        own = make(trainable)
    return _Runner(label(kind if candidate is None else candidate), twin, own)


def _adamw(parameters: list[nn.Parameter]) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3)


def _step(runner: _Runner, inputs: Any, target: Any, loss_fn: Callable[[Any, Any], Tensor]) -> None:
    losses: list[Tensor] = []

    def train() -> None:
        runner.optimizer.zero_grad()
        loss = loss_fn(model_inputs.call(runner.model, inputs), target)
        check_loss(loss, "price_activations(loss_fn=...)")
        loss.backward()
        take_step(runner.optimizer)
        losses.append(loss.detach())

    runner.times.append(timed(train))
    runner.losses.append(float(losses[0]))


def _prediction(model: nn.Module, inputs: Any) -> Callable[[], object]:
    model.eval()

    def predict() -> Any:
        with torch.no_grad():
            return model_inputs.call(model, inputs)

    return predict


def _price(runner: _Runner, predict_s: float, goal: float) -> ActivationPrice:
    window = _window(runner.losses)
    means = [fmean(runner.losses[max(0, at + 1 - window) : at + 1]) for at in range(len(runner.losses))]
    reached = next((at + 1 for at, mean in enumerate(means) if mean <= goal), None)
    step_s = median(runner.times)
    elapsed = None if reached is None else reached * step_s
    return ActivationPrice(runner.name, step_s, predict_s, reached, elapsed, _ending(runner.losses))


def _ending(losses: list[float]) -> float:
    return fmean(losses[-_window(losses) :])


def _window(losses: list[float]) -> int:
    return max(1, len(losses) // 10)


def _most_common(model: nn.Module) -> type[nn.Module]:
    kinds = [kind for module in model.modules() for kind in BY_NAME.values() if is_kind(module, kind)]
    if not kinds:
        raise DataError(
            what="The model has no activation module that could be swapped.", where=type(model).__name__,
            received="no ReLU, ELU, GELU or other activation among its modules",
            do="make the functions that its forward calls modules, or name the class in old=.",
        )  # fmt: skip
    return Counter(kinds).most_common(1)[0][0]


def _on_device(model: nn.Module, items: list[Any]) -> list[tuple[Any, Any]]:
    """(inputs, target) pairs where the model is."""
    device = next((parameter.device for parameter in model.parameters()), None)
    pairs = [
        model_inputs.unpack(item, at, model_inputs.required_labels(model.forward)) for at, item in enumerate(items)
    ]
    return [(model_inputs.move(inputs, device), model_inputs.move(target, device)) for inputs, target in pairs]
