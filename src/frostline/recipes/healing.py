"""Before the epochs of `fit(monitor="heal")`: the model is examined and, if it is sick, treated.

It happens on the caller's own model, before the split, and on raw batches: a treatment that replaces a module inside
of a head would not reach the model.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from frostline.caching import CachedDataset
from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.order import epoch_order
from frostline.core.restore import kept_modes, seed_generators
from frostline.recipes.heal import heal
from frostline.remedies.surgery import Snapshot
from frostline.training import (
    DatasetBatches,
    clipping_first,
    describe_structure,
    describe_values,
    has_checkpoint,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn
    from torch.optim import Optimizer

    from frostline.core.records import Healing

# A trial takes 30 batches; of 100 `heal` judges by 20, and trains on 50 more. The number does not follow the epochs: a
# run that is resumed for more of them must find the same cure.
_BATCHES = 100
_FEWEST, _MOST_BYTES = 10, 2**30  # `heal` keeps its batches in memory
_START, _CURE = "weights before healing", "healing (monitor='heal', --heal)"  # in a checkpoint's settings


@dataclass(frozen=True)
class Healed:
    """What training begins with.

    Attributes:
        optimizer: Over the model's trainable parameters, those of a treatment included.
        healing: What `heal` said; None if it was not asked.
        steps: Steps that the model has taken under the kept treatment.
        elapsed_s: Seconds that it took.
        described: What a checkpoint must say of it; empty where nothing was kept.
    """

    optimizer: Optimizer
    healing: Healing | None = None
    steps: int = 0
    elapsed_s: float = 0.0
    described: dict[str, str] = field(default_factory=dict[str, str])


def heal_first(
    model: nn.Module, train: Any, loss: Callable[..., Any], new_optimizer: Callable[[], Optimizer],
    clip: Callable[..., Any] | None, *, batch_size: int, seed: int, resume: Path | None,
    progress: bool,
) -> Healed:  # fmt: skip
    """Treat a sick model in place, and leave a healthy one as it was, to the bit.

    A resumed run finds its cure again: the same search from the same weights on the same batches, compared with what
    the checkpoint says. A run that began without a cure goes on without one.

    Raises:
        DataError: If the data cannot be used, or the cure of a resumed run cannot be repeated.
    """
    made_with = settings_of(resume) if resume is not None and has_checkpoint(resume) else None
    if made_with is not None and _CURE not in made_with:
        return Healed(new_optimizer())
    started, start = time.perf_counter(), describe_values(model)
    if made_with is not None and made_with[_START] != start:
        raise _not_repeatable(resume, "a model with other weights than that run began with")
    data = _trial_batches(model, train, batch_size, seed)
    if progress:
        sys.stderr.write(f"heal: examining the model on {len(data)} batches ...\n")
    optimizer, undo = new_optimizer(), Snapshot(model)
    with kept_modes(model), clipping_first(optimizer, clip):
        model.train()
        seed_generators(seed)
        healing = heal(model, data, loss, optimizer)
    kept = [treatment.name for treatment in healing.treatments if treatment.kept] if healing.accepted else []
    described = {_CURE: f"{'; '.join(kept)} ({describe_structure(model)})", _START: start} if kept else {}
    if made_with is not None and made_with[_CURE] != described.get(_CURE):
        undo.restore()
        raise _not_repeatable(resume, f"{', '.join(kept) or 'no treatment'} now, {made_with[_CURE]} then")
    if progress:
        _tell(healing)
    if not kept:  # nothing was, or it has not lasted. A healthy network is trained as if healing had not been asked for
        undo.restore()
        return Healed(new_optimizer(), healing, 0, time.perf_counter() - started)
    return Healed(optimizer, healing, 4 * len(data) // 5, time.perf_counter() - started, described)


def _tell(healing: Healing) -> None:
    """What was found and kept, one line each, on standard error."""
    for finding in healing.before.findings[:3]:
        place = f" in {finding.place}" if finding.layer else ""
        sys.stderr.write(f"heal: {finding.code} {finding.outcome}: {finding.title}{place}: {finding.why}\n")
    for treatment in healing.treatments if healing.accepted else ():
        if not treatment.kept:
            continue
        sys.stderr.write(f"heal: {treatment.name} ({treatment.family}): {treatment.why}\n")
    if not healing.accepted:
        sys.stderr.write(f"heal: nothing was changed ({len(healing.treatments)} treatments were tried).\n")


def _trial_batches(model: nn.Module, train: Any, batch_size: int, seed: int) -> list[tuple[Any, Any]]:
    """Batches of the first epoch's first samples: four fifths of them to train on, then the rest to judge by.

    No sample is in both. Where there are fewer samples than batches to fill, both parts are repeated.
    """
    if isinstance(train, CachedDataset):
        raise DataError(
            what="A cached dataset is not enough to heal by.", where="fit(train=..., monitor='heal')",
            received="CachedDataset",
            do="pass the model and the dataset itself (fit caches it), or use monitor=True; a treatment changes "
            "modules of the model, which a head would not follow.",
        )  # fmt: skip
    plain = DatasetBatches(train, batch_size, keep=batches.required_labels(model.forward))
    order = epoch_order(len(train), shuffle=True, seed=seed, epoch=0).tolist()
    if len(order) < 2:
        raise DataError(
            what="There are too few samples to heal by.", where="fit(train=..., monitor='heal')",
            received=f"{len(order)} samples", do="pass more data: some are trained on, others judge.",
        )  # fmt: skip
    first = plain.batch(order[:batch_size])
    size = sum(tensor.nbytes for tensor in batches.leaves(first[0]).values())
    count = min(_BATCHES, max(_FEWEST, _MOST_BYTES // max(1, size))) // 5  # of held-out batches
    order = order[: 5 * count * batch_size]
    num_judged = max(1, len(order) // 5)
    trained, judged = (_in_batches(plain, part) for part in (order[:-num_judged], order[-num_judged:]))
    return [*islice(cycle(trained), 4 * count), *islice(cycle(judged), count)]


def _in_batches(plain: DatasetBatches, indices: list[int]) -> list[tuple[Any, Any]]:
    parts = [indices[at : at + plain.batch_size] for at in range(0, len(indices), plain.batch_size)]
    return [plain.batch(part) for part in parts if len(part) > 1 or len(parts) == 1]  # BatchNorm takes no single one


def _not_repeatable(resume: Path | None, received: str) -> DataError:
    return DataError(
        what="The cure of the run to be resumed cannot be repeated.", where=str(resume), received=received,
        do="resume with the model as it was before that run (same weights, same data), or start anew without resume.",
    )  # fmt: skip
