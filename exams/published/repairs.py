"""What `heal` makes of the published bugs: scores on rows that it never gets, beside the plain loop and the twin.

A fifth of the distinct rows is kept away from everything. The sick network, its twin and the healed network take the
same number of batches: `heal` trains on the first four fifths of them, and a plain loop on the rest. Whether a bug can
be treated in place at all was written down with the case, before any was healed (`Published.treatment`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

import frostline
from frostline.core.inputs import call
from frostline.core.records import Healing

from .case import Batch, Published, Training

CLOSED = 0.9  # of the gap to the twin, as in the exam of health
GAP = 0.05  # by which the twin must be better, so that there is something to close
HARM = 0.03  # of the score of a twin, by which it may not be lower after `heal`
_FEW = 64  # distinct rows: a truth table, of which none can be kept away


@dataclass(frozen=True)
class Repair:
    """What came of one case.

    Attributes:
        sick: Score of the sick network after the plain loop.
        twin: The same of the fixed twin.
        healed: The same of the sick network, healed.
        twin_healed: The same of the twin, healed.
        kept: Names of the treatments that were kept.
        twin_kept: The same of the twin.
        names_cause: True if what `heal` found first is the cause of the bug, or it refused for it.
        is_accepted: What `heal` says of the network that it leaves.
    """

    sick: float
    twin: float
    healed: float
    twin_healed: float
    kept: tuple[str, ...]
    twin_kept: tuple[str, ...]
    names_cause: bool
    is_accepted: bool

    @property
    def closed(self) -> float | None:
        """The share of the gap to the twin that is closed; None if there is none."""
        return (self.healed - self.sick) / (self.twin - self.sick) if self.twin - self.sick > GAP else None

    @property
    def is_healed(self) -> bool:
        """True if the gap is closed."""
        return self.closed is not None and self.closed >= CLOSED

    @property
    def is_harmed(self) -> bool:
        """True if the twin is worse for having been healed."""
        return self.twin_healed < self.twin - HARM


def repair(case: Published, seed: int = 1) -> Repair:
    """Heal the sick network and its twin, and train both without.

    Args:
        case: A bug that is not in the loop, which `heal` replaces.
        seed: Of weights and noise.
    """
    sick, _, _ = _trained(case, seed, is_sick=True, heals=False)
    twin, _, _ = _trained(case, seed, is_sick=False, heals=False)
    healed, healing, refusal = _trained(case, seed, is_sick=True, heals=True)
    twin_healed, of_twin, _ = _trained(case, seed, is_sick=False, heals=True)
    first = healing.before.findings[:1] if healing is not None else ()
    said = {name for one in first for name in (one.code, one.family)}
    said |= {healing.before.cause or ""} if healing is not None else set()
    said |= {"refused", *(("optimizer",) if "optimizer" in refusal else ())} if refusal else set()
    return Repair(
        sick, twin, healed, twin_healed, _kept(healing), _kept(of_twin), bool(said & case.right),
        healing is not None and healing.accepted,
    )  # fmt: skip


def _kept(healing: Healing | None) -> tuple[str, ...]:
    return tuple(one.name for one in healing.treatments if one.kept) if healing is not None else ()


def _trained(case: Published, seed: int, *, is_sick: bool, heals: bool) -> tuple[float, Healing | None, str]:
    """(score on rows that were kept away, the healing, the error with which it was refused)."""
    torch.manual_seed(seed)
    training = case.build(is_sick)
    batches, judged = kept_away(training.batches)
    healing, refusal, count = None, "", 0
    if heals:
        try:
            healing = frostline.heal(training.model, batches, training.loss_fn, training.optimizer)
            count = len(batches) - max(1, len(batches) // 5)
        except frostline.FrostlineError as error:
            refusal = str(error)
    _train(training, batches[count:], seed)
    return score(training, judged), healing, refusal


def _train(training: Training, batches: list[Batch], seed: int) -> None:
    torch.manual_seed(seed)
    for inputs, target in batches:
        training.optimizer.zero_grad()
        loss = training.loss_fn(call(training.model, inputs), target)
        if not loss.requires_grad:
            return  # the bug cuts the graph off
        loss.backward()
        training.optimizer.step()


def kept_away(batches: list[Batch]) -> tuple[list[Batch], Batch]:
    """(the batches without a fifth of their distinct rows, these rows once); all rows where few are distinct."""
    keys = [[_key(row) for row in inputs] for inputs, _ in batches]
    distinct = {key for batch in keys for key in batch}
    away = {key for key in distinct if key % 5 == 3} if len(distinct) > _FEW else set[int]()
    left: list[Batch] = []
    rows: dict[int, tuple[Tensor, Tensor]] = {}
    for (inputs, target), batch in zip(batches, keys, strict=True):
        stay = [at for at, key in enumerate(batch) if key not in away]
        left += [(inputs[stay], target[stay])] if stay else []
        for at, key in enumerate(batch):
            if key in away or not away:
                rows.setdefault(key, (inputs[at], target[at]))
    return left, (torch.stack([x for x, _ in rows.values()]), torch.stack([y for _, y in rows.values()]))


def _key(row: Tensor) -> int:
    return int.from_bytes(hashlib.sha256(row.contiguous().numpy().tobytes()).digest()[:8], "big")


def plain_score(training: Training, seed: int = 1) -> float:
    """The score, on the last tenth of its batches, of a network that a plain loop trains on the others."""
    count = max(1, len(training.batches) // 10)
    _train(training, training.batches[:-count], seed)
    scores = [score(training, batch) for batch in training.batches[-count:]]
    return sum(scores) / count


@torch.no_grad()
def score(training: Training, judged: Batch) -> float:
    """How good the network is in evaluation mode: right answers, or explained variance, from 0 to 1."""
    inputs, target = judged
    training.model.eval()
    torch.manual_seed(0)
    output = call(training.model, inputs)
    output = output[0] if isinstance(output, tuple) else output
    training.model.train()
    if not torch.isfinite(output).all():
        return 0.0
    if training.measure is not None:
        return training.measure(output, target)
    if target.dtype == torch.long:
        is_asked = target >= 0
        return float((output.argmax(1) == target)[is_asked].float().mean())
    output = output.reshape(target.shape) if output.numel() == target.numel() else output
    if bool(((target == 0) | (target == 1)).all()):
        limit = 0.5 if bool(((output >= 0) & (output <= 1)).all()) else 0.0
        return float(((output > limit) == (target > 0.5)).float().mean())
    spread = (target - target.mean(0)).square().mean()
    return max(0.0, float(1 - (output - target).square().mean() / spread))
