"""Scikit-learn's digits, real scans of handwriting, as two tasks: the source's digits and the target's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from frostline.core.io import make_folder, write_atomic
from frostline.data import Arrays

_TEST_SHARE = 0.3


def load_digits_task(digits: range) -> tuple[Arrays, Arrays]:
    """(training images, held-out images) of these digits, enlarged from 8x8 to (1, 32, 32), values 0 to 1.

    The held-out share is chosen once, the same in every run, and is used for nothing but the final accuracy.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    scans: Any = load_digits()
    chosen = np.isin(scans.target, list(digits))
    images = torch.tensor(scans.images[chosen, None] / 16, dtype=torch.float32)
    images = F.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    labels = torch.tensor(scans.target[chosen] - digits.start)
    train, test = train_test_split(np.arange(len(labels)), test_size=_TEST_SHARE, random_state=0, stratify=labels)
    return Arrays(images[train], labels[train]), Arrays(images[test], labels[test])


def accuracy(model: nn.Module, test: Arrays) -> float:
    """Share of the held-out images that the model, left in eval mode, answers right."""
    model.eval()
    with torch.no_grad():
        device = next(model.parameters(), test.inputs).device
        answers = model(test.inputs.to(device)).argmax(dim=1).cpu()
    return float((answers == test.labels).float().mean())


def few_per_class(task: Arrays, count: int | None, seed: int) -> Arrays:
    """So many images of every class, chosen by the seed; None: all of them."""
    if count is None:
        return task
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.cat(
        [
            own[torch.randperm(len(own), generator=generator)[:count]]
            for own in ((task.labels == label).nonzero().squeeze(1) for label in task.labels.unique())
        ]
    )
    return Arrays(task.inputs[chosen], task.labels[chosen])


def save_arrays(path: Path, task: Arrays) -> None:
    """The task as an .npz that `frostline fit` takes."""
    import io

    make_folder(path.parent)
    buffer = io.BytesIO()
    np.savez(buffer, x=task.inputs.numpy(), y=task.labels.numpy())
    write_atomic(path, [buffer.getvalue()])
