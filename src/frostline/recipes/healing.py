"""Healing before `fit`: what `frostline fit --heal` does, on batches of its own choice.

It happens on the caller's own model, before the split, and on raw batches: a treatment that replaces a module inside
of a head would not reach the model.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from frostline.caching import CachedDataset
from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.item_form import form_by_signature
from frostline.core.mismatch import told_mismatch
from frostline.core.order import epoch_order
from frostline.core.restore import kept_generators, kept_modes, seed_generators
from frostline.recipes.heal import heal
from frostline.remedies.surgery import Snapshot
from frostline.training import DatasetBatches, clipping_first, make_fabric

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn
    from torch.optim import Optimizer

    from frostline.core.records import Healing

# A trial takes 30 batches; of 100 `heal` judges by 20, and trains on 50 more. The number does not follow the epochs: a
# run that is resumed for more of them must find the same cure.
_BATCHES = 100
_FEWEST, _MOST_BYTES = 10, 2**30  # `heal` keeps its batches in memory


@dataclass(frozen=True)
class Healed:
    """What training begins with.

    Attributes:
        optimizer: Over the model's trainable parameters, those of a treatment included.
        healing: What `heal` returned; None if it was not called.
        steps: Steps that the model has taken under the kept treatment.
        elapsed_s: Seconds that it took.
    """

    optimizer: Optimizer
    healing: Healing | None = None
    steps: int = 0
    elapsed_s: float = 0.0


def heal_first(
    model: nn.Module, train: Any, loss: Callable[..., Any], new_optimizer: Callable[[], Optimizer],
    clip: Callable[..., Any] | None = None, *, batch_size: int, seed: int, progress: bool,
) -> Healed:  # fmt: skip
    """Treat a model in place if it has symptoms, else leave it as it was, to the bit.

    The same weights, data and seed give the same treatment, so a run that is resumed heals the model as before.

    Args:
        model: Treated in place, on the device on which `fit` trains.
        train: A map-style dataset; the first batches of its first epoch are used.
        loss: callable(output, target) -> scalar.
        new_optimizer: callable() that makes one over the model's parameters.
        clip: callable(parameters), called before each step of a trial.
        batch_size: Samples per batch.
        seed: Of the order of samples and of the noise in the model.
        progress: One line for each finding and treatment, on standard error.

    Raises:
        DataError: If the data cannot be used.
    """
    started = time.perf_counter()
    model.to(make_fabric("32-true", 1, None).device)
    data = _trial_batches(model, train, batch_size, seed)
    if progress:
        sys.stderr.write(f"heal: examining the model on {len(data)} batches ...\n")
    optimizer, undo = new_optimizer(), Snapshot(model)
    with kept_modes(model), kept_generators(), clipping_first(optimizer, clip):
        model.train()
        seed_generators(seed)
        with told_mismatch(model, data[0][0]):
            healing = heal(model, data, loss, optimizer)
    if progress:
        _tell(healing)
    if not healing.accepted:  # the training of `heal` is taken back, so that a healthy network is left as it was
        undo.restore()
        return Healed(new_optimizer(), healing, 0, time.perf_counter() - started)
    return Healed(optimizer, healing, 4 * len(data) // 5, time.perf_counter() - started)


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
            do="pass the model and the dataset itself, which fit caches; a treatment changes modules of the model, "
            "which a head would not follow.",
        )  # fmt: skip
    plain = DatasetBatches(train, batch_size, form=form_by_signature(model.forward))
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
