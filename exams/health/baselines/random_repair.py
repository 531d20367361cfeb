"""Random repair: as many tries as AUTOTRAINER has, the best on held-out batches is kept (Kim et al., ICST 2023)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from ..cases import Case
from ..training import Batch, Setup, train
from ..verdict import Verdict
from . import dummy, remedies
from .autotrainer import TRIES
from .watch import watch_case


class RandomRepair:
    """Checks up like the dummy; repairs by trying remedies at random."""

    name = "random"

    def checkup(self, case: Case) -> Verdict:
        """Alarm like the dummy; the family is drawn."""
        is_sick = dummy.is_bad(watch_case(case))
        families = ("vanishing", "exploding", "dead_units", "learning_rate", "initialization", "input_scale")
        return Verdict(is_sick, (random.Random(case.id).choice(families),) if is_sick else ())

    def heal(self, setup: Setup, batches: Sequence[Batch]) -> bool:
        """Try remedies from the same start, and leave the set-up with the best, trained on the first four fifths."""
        cut = len(batches) * 4 // 5
        start = remedies.remember(setup)
        train(setup, batches[:cut])
        best, best_loss, is_changed = remedies.remember(setup), _loss(setup, batches[cut:]), False
        names = random.Random(setup.seed).sample(sorted(remedies.REMEDIES), TRIES)
        for name in names:
            start.restore(setup)
            if not remedies.REMEDIES[name](setup):
                continue
            train(setup, batches[:cut])
            loss = _loss(setup, batches[cut:])
            if loss < best_loss or best_loss != best_loss:
                best, best_loss, is_changed = remedies.remember(setup), loss, True
        best.restore(setup)
        return is_changed


@torch.no_grad()
def _loss(setup: Setup, batches: Sequence[Batch]) -> float:
    setup.model.eval()
    total = sum(setup.loss_fn(setup.model(inputs), target).item() for inputs, target in batches) / len(batches)
    setup.model.train()
    return total
