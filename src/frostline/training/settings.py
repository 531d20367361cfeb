"""The settings of a training run, checked before anything is done."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_name, as_number
from frostline.core.errors import DataError
from frostline.training.callbacks import Callbacks
from frostline.training.losses import CrossEntropy, Loss
from frostline.training.optimizers import Clip, check_names
from frostline.training.ranks import Ranks

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.training.checkpoints import Progress
    from frostline.training.metrics import Metric

_PRECISIONS = ("32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed", "16-true")
_INTERVALS = ("epoch", "step")
_LEFT, _SETTLED = 0.1, 0.01  # of the first step in an average of weights: too much, and what is advised; chosen by us


@dataclass(frozen=True)
class StepOptions:
    """How steps of the optimizer are made: the same in all phases of a run.

    Attributes:
        accumulation: Batches of one step, whose gradients are added up as those of one batch of all their samples.
        warmup: Epochs in which the learning rate rises to that of the optimizer; a part of one may be given.
        scheduler_interval: When the scheduler is stepped: at the end of every `epoch`, or after every `step` that
            follows the warm-up.
        ema: The share that every step keeps of an average of the weights, which is judged and saved; None: no average.
    """

    accumulation: int = 1
    warmup: float = 0.0
    scheduler_interval: str = "epoch"
    ema: float | None = None

    def per_epoch(self, num_batches: int) -> int:
        """Steps of an epoch: the last one takes the batches that are left."""
        return math.ceil(num_batches / self.accumulation)

    def share(self, step: int, per_epoch: int) -> float:
        """The share of its learning rate that a step trains with, counted from the beginning of the run."""
        length = round(self.warmup * per_epoch)
        return 1.0 if step >= length else (step + 1) / (length + 1)

    def length(self, epochs: int, per_epoch: int) -> int:
        """How often the scheduler is stepped in the whole run."""
        return epochs if self.is_per_epoch else epochs * per_epoch - round(self.warmup * per_epoch)

    @property
    def is_per_epoch(self) -> bool:
        """True if the scheduler is stepped at the end of every epoch."""
        return self.scheduler_interval == "epoch"

    def note(self, num_steps: int) -> str | None:
        """What to know of an average over so many steps that is mostly made of the first ones."""
        left = self.ema**num_steps if self.ema is not None else 0.0
        if left <= _LEFT:
            return None
        return (
            f"After {num_steps} steps, {left:.0%} of the averaged weights are still those of the first step; "
            f"ema={_SETTLED ** (1 / num_steps):.3g} leaves {_SETTLED:.0%}."
        )

    @property
    def described(self) -> dict[str, Any]:
        """What a resumed run must have as well; a run without these options is described as before there were any."""
        plain = StepOptions()
        return {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}


def step_options(
    *, epochs: int, accumulation: Any = 1, warmup: Any = 0.0, scheduler_interval: Any = "epoch", ema: Any = None
) -> StepOptions:
    """The options, checked.

    Raises:
        DataError: It names the argument and the remedy.
    """
    warmup = as_number("fit", "warmup", warmup, least=0)
    if warmup >= epochs:
        raise DataError(
            what="The warm-up of the learning rate is as long as the run.", where="fit(warmup=...)",
            received=f"warmup={warmup:g} in a run of {epochs} epoch{'s' * (epochs != 1)}",
            do="pass the warm-up in epochs, fewer than the run has: warmup=0.5 is half an epoch.",
        )  # fmt: skip
    if as_name("fit", "scheduler_interval", scheduler_interval) not in _INTERVALS:
        raise _wrong("scheduler_interval", scheduler_interval, "use 'epoch' or 'step'.")
    decay = as_number("fit", "ema", ema, above=0, below=1) if ema is not None else None
    return StepOptions(as_count("fit", "accumulation", accumulation), warmup, scheduler_interval, decay)


class Batches(Protocol):
    """A re-iterable of `(inputs, target)` that counts its epochs."""

    epoch: int

    @property
    def batch_size(self) -> int:
        """Samples of a full batch."""
        ...

    @property
    def num_samples(self) -> int:
        """Samples of a pass."""
        ...

    def __iter__(self) -> Any: ...

    def __len__(self) -> int: ...


class Observer(Protocol):
    """Gets the loss of every step."""

    def step(self, loss: Tensor) -> None:
        """Take the loss of the step that was just done."""
        ...


Watch: TypeAlias = Callable[[nn.Module, Optimizer, int], AbstractContextManager[Observer | None]]


@dataclass(frozen=True)
class Settings:
    """Everything a run is made of, beside the module and the data.

    Attributes:
        loss: callable(output, target) -> scalar; it gets the module's whole output.
        metrics: By name, each computed once over the validation set, higher is better; the first chooses the best
            epoch. With none the validation loss does.
        epochs: Passes over the training data.
        clip: callable(parameters), after backward; a result with a true `skipped` leaves the step out.
        patience: Epochs without a better validation before the run stops; None: never.
        out: Folder of checkpoints and logs, or None.
        resume: Folder of a checkpoint to go on from, or None.
        described: The settings as JSON: a resumed run must have the same.
        progress: Show one line per epoch and a bar, on standard error.
        watch: callable(module, optimizer, steps before) -> a context in which the epochs run, or None; not called where
            a resumed run has none left.
        counted: callable(target) -> how much a batch counts in the means of losses; one that counts 0 is left out.
        ignored: The label that metrics by name leave out; None: torch's own, -100.
        confused: The targets are classes: the confusion matrix of the best epoch is written to `out/confusion.csv`.
        classes: Names of the classes in that file; None takes their numbers.
        before_epoch: Called at the start of every epoch; it raises if something has changed that must not.
        after_epoch: Called with the progress after every epoch, before it is saved: a schedule measures there.
        trains: Names of the parameters that train in some phase of the run; None: those that train now.
        first_epoch: Of the phase: patience counts from there.
        is_over: callable(progress) -> True where the phase ends and the frost line moves; None: never.
        has_next: Another phase may follow: patience does not end the run.
        pace: callable(epoch, step from 0) -> a context in which that step is taken, such as a warm-up.
        steps: How steps of the optimizer are made.
        callbacks: Called while the run trains.
        ranks: The processes that train together.
        seed: Of their noise.
        mass: callable(target) -> what the mean that is the loss of a batch is divided by.
    """

    loss: Loss
    metrics: Mapping[str, str | Metric]
    epochs: int
    clip: Clip | None
    patience: int | None
    out: Path | None
    resume: Path | None
    described: dict[str, Any]
    progress: bool
    watch: Watch | None = None
    counted: Callable[[Any], int] = batches.batch_size
    ignored: int | None = None
    confused: bool = False
    classes: Sequence[str] | None = None
    before_epoch: Callable[[], None] | None = None
    after_epoch: Callable[[Progress], None] | None = None
    trains: frozenset[str] | None = None
    first_epoch: int = 1
    is_over: Callable[[Progress], bool] | None = None
    has_next: bool = False
    pace: Callable[[int, int], AbstractContextManager[None]] = lambda epoch, step: nullcontext()
    steps: StepOptions = StepOptions()
    callbacks: Callbacks = field(default_factory=Callbacks)
    ranks: Ranks = field(default_factory=Ranks)
    seed: int = 0
    mass: Callable[[Any], float] = batches.batch_size

    def size_of(self, target: Any, data: Batches, at: int) -> int:
        """How much a batch counts; of a target that is no tensor its samples, since a list may have an entry for each.

        Args:
            target: Of the batch.
            data: That gave it.
            at: Its number in the pass.
        """
        if isinstance(target, torch.Tensor) or self.ranks.count > 1:
            return self.counted(target)
        return min(data.batch_size, data.num_samples - at * data.batch_size)


def check_settings(
    *, epochs: int, batch_size: int, lr: float, patience: int | None, precision: str, devices: int, has_val: bool,
    monitor: bool | str = True, num_workers: int = 0, init_head: Any = None, optimizer: Any = "adamw",
    scheduler: Any = None,
) -> None:  # fmt: skip
    """Raise if a number or a combination makes no sense.

    Raises:
        DataError: It names the argument and the remedy.
    """
    check_names(optimizer, scheduler)
    as_count("fit", "epochs", epochs)
    as_count("fit", "batch_size", batch_size)
    as_number("fit", "lr", lr, above=0)
    as_count("fit", "num_workers", num_workers, least=0)
    if patience is not None and (as_count("fit", "patience", patience) and not has_val):
        raise _wrong("patience", patience, "pass validation data to judge by: val=..., or --val-share 0.2.")
    if as_name("fit", "precision", precision) not in _PRECISIONS:
        raise _wrong("precision", precision, f"use one of {', '.join(_PRECISIONS)}.")
    if not isinstance(monitor, bool) and (not isinstance(monitor, str) or monitor != "heal"):  # pyright: ignore
        raise _wrong(
            "monitor", monitor, "use monitor=True to measure and report, monitor='heal' to treat, or monitor=False."
        )
    if monitor == "heal" and precision != "32-true":
        raise _wrong("monitor", f"'heal' with precision={precision!r}",
                     "use precision='32-true': trials run in it, and their proof holds for nothing else.")  # fmt: skip
    if init_head is not None and (not isinstance(init_head, str) or init_head != "probe"):
        raise _wrong("init_head", init_head, "use init_head='probe' to solve the output layer first, or None.")
    if batch_size % as_count("fit", "devices", devices):
        sizes = [batch_size - batch_size % devices, batch_size + -batch_size % devices]
        raise _wrong("batch_size", f"{batch_size} samples on {devices} devices",
                     "each device trains on the same share of a batch: use "
                     f"{' or '.join(str(size) for size in sizes if size)}.")  # fmt: skip


def describe_callable(value: Any) -> str:
    """A text for a name or a callable, the same in every process."""
    if value is None or isinstance(value, (str, CrossEntropy)):
        return str(value)
    return f"{_module_of(value)}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def describe_data(train: Any, val: Any) -> dict[str, Any]:
    """Numbers of samples and preparation of the data, which a resumed run must have as well."""
    both = [one for one in (train, val) if one is not None]
    prepared = [str(getattr(one, "fingerprint", "")) for one in both]
    return {"numbers of samples": [len(one) for one in both], "preparation of samples": prepared}


def is_stateless(loss: Any) -> bool:
    """True for a loss by name and for torch's own: they may be called once more than the training does."""
    return isinstance(loss, (str, CrossEntropy)) or _module_of(loss).startswith("torch.")


def describe_optimizer(given: Any, made: Optimizer) -> dict[str, str]:
    """How an optimizer was given, and what else changes its steps: hooks, such as a clip that `heal` has added.

    Torch's own are described as those by name, whose settings and state are in the checkpoint.
    """
    plain = isinstance(given, Optimizer) and _module_of(given).startswith("torch.optim.")
    described = {"optimizer": type(given).__name__.lower() if plain else describe_callable(given)}
    hooks = len(made._optimizer_step_pre_hooks)
    return {**described, "hooks before each step": str(hooks)} if hooks else described


def describe_model(model: nn.Module) -> str:
    """A digest of what the model computes with, values aside: types of modules, names and shapes, and what trains."""
    modules = [f"{name}:{type(module).__name__}" for name, module in model.named_modules()]
    # quantised layers keep more than tensors there
    shapes = [f"{name}{tuple(getattr(value, 'shape', ()))}" for name, value in model.state_dict().items()]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return hashlib.sha256(";".join([*modules, *shapes, *trained]).encode()).hexdigest()[:16]


def describe_line(model: nn.Module) -> str:
    """Which parameters are frozen, for people: how many, and the last."""
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    last = f", the last is {frozen[-1]!r}" if frozen else ""
    return f"{len(frozen)} of {sum(1 for _ in model.parameters())} parameters{last}"


def describe_frozen(model: nn.Module) -> str:
    """A digest of the values that checkpoints leave out: those of the frozen parameters, to the bit."""
    digest = hashlib.sha256()
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _module_of(value: Any) -> str:
    return getattr(value, "__module__", None) or ""


def _wrong(name: str, value: Any, do: str) -> DataError:
    return DataError(what=f"{name} is not usable.", where=f"fit({name}=...)", received=repr(value), do=do)
