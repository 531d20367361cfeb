"""The confusion matrix of a validation: how often each class was taken for each other.

Legend: C classes.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core.io import make_folder
from frostline.core.new_files import write_atomic
from frostline.training.losses import IGNORED
from frostline.training.metrics import as_classes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_CLASSES = 1_000  # chosen by us: a table of a million cells is of no use


class Confusion:
    """Counts of pairs (true class, predicted class) over the batches of one validation.

    Args:
        ignored: The label that does not count; None: torch's own, -100.

    Attributes:
        matrix: (C, C) int64, rows by the true class; None before the first batch, and of more than 1,000 classes.
    """

    def __init__(self, ignored: int | None = None) -> None:
        self._ignored = IGNORED if ignored is None else ignored
        self.matrix: Tensor | None = None

    def add(self, output: Any, target: Any) -> None:
        """Take a batch."""
        logits, true, counts = as_classes(output, target, self._ignored)
        classes = logits.shape[1]
        if classes > _MOST_CLASSES:
            return
        pairs = (true[counts] * classes + logits.argmax(dim=1)[counts]).cpu()
        found = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        self.matrix = found if self.matrix is None else self.matrix + found


def write_confusion(path: Path, matrix_CC: Tensor, classes: Sequence[str] | None) -> None:
    """Write the counts as CSV: one row for each true class, one column for each predicted class.

    Args:
        path: Of the file; a folder that is missing is made.
        matrix_CC: Of `Confusion`.
        classes: Their names; None, or names of other classes than these, takes the numbers.
    """
    names = list(classes) if classes is not None and len(classes) == len(matrix_CC) else range(len(matrix_CC))
    make_folder(path.parent)
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["true \\ predicted", *names])
    rows.writerows([name, *counts] for name, counts in zip(names, matrix_CC.tolist(), strict=True))
    write_atomic(path, [file.getvalue().encode()])
