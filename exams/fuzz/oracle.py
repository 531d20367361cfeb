"""Whether a model could be cached: decided by running it, not by the library."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .models import call, made
from .samples import make_samples, take

if TYPE_CHECKING:
    from torch import Tensor

    from .programs import Program

_TOLERANCE = 1e-4


def is_cacheable(program: Program) -> bool:
    """Whether frozen values are the same for a sample in any company, at any place, in any batch and epoch."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    inputs, _ = make_samples(program)
    rng = random.Random(program.seed)
    rows = [*range(program.count)]
    parts = [rows[at : at + program.batch] for at in range(0, len(rows), program.batch)]
    for size in (5, 3, 2, 7):
        mixed = rng.sample(rows, len(rows))
        parts += [mixed[at : at + size] for at in range(0, len(mixed) - size + 1, size)]
    try:
        with warnings.catch_warnings(), made(program, folder, is_probed=True) as model:
            warnings.simplefilter("ignore")
            seen = sys.modules[type(model).__module__].SEEN_FEATURES
            for is_training in (True, False):
                model.train(is_training)
                known: dict[Any, Tensor] = {}
                for part in parts * 2:
                    seen.clear()
                    call(model, take(inputs, part))
                    if not all(_is_known(known, name, value, part) for name, value in seen):
                        return False
        return True
    except Exception:
        return False
    finally:
        shutil.rmtree(folder)


def _is_known(known: dict[Any, Tensor], name: str, value: Tensor, part: list[int]) -> bool:
    """Whether each sample's row (or a value that all share) is what it was before."""
    is_rows = value.dim() > 0 and len(value) == len(part)
    for key, row in [((name, at), value[i]) for i, at in enumerate(part)] if is_rows else [((name, None), value)]:
        before = known.setdefault(key, row)
        scale = before.double().abs().max().clamp(min=1) if before.numel() else torch.ones(())
        if before.shape != row.shape or not bool((((before.double() - row.double()).abs() / scale) < _TOLERANCE).all()):
            return False
    return True
