"""Arrays in memory, from an .npz or a .safetensors file."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from frostline.core.arguments import as_path
from frostline.core.errors import DataError
from frostline.core.inputs import describe, rows_where

_INPUT_NAMES = ("x", "inputs", "images", "data", "features")
_MOST_CLASSES = 1_000_000  # chosen by us: labels beyond are identifiers, not classes
_TARGET_NAMES = ("y", "targets", "labels", "target", "label")


class Arrays:
    """Inputs and targets as tensors; a dataset of `(inputs, target)`.

    Args:
        inputs: (N, ...), finite; float64 becomes float32, everything else stays as it is.
        targets: (N, ...): class indices, or numbers.
        classes: Names of the classes by their index; None: the indices themselves.

    Attributes:
        labels: The targets.
        classes: Names of the classes, or None if the targets are not class indices.
        fingerprint: Nothing is done to the arrays.

    Raises:
        DataError: If the lengths differ, there is no sample, a number is not finite, or there is a single class.
    """

    fingerprint = "arrays/1"

    def __init__(self, inputs: Tensor, targets: Tensor, classes: tuple[str, ...] | None = None) -> None:
        for name, given in (("inputs", inputs), ("targets", targets)):
            _check_rows(name, given)
        inputs, targets = (t.float() if t.dtype == torch.float64 else t for t in (inputs, targets))
        if targets.dtype in (torch.uint16, torch.uint32, torch.uint64):  # torch cannot choose rows of these
            targets = targets.long()
        if len(inputs) != len(targets) or not len(inputs):
            raise _wrong("Inputs and targets do not pair up.", f"{len(inputs)} inputs, {len(targets)} targets",
                         "give every input one target, and at least two samples.")  # fmt: skip
        if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
            bad = rows_where(~torch.isfinite(inputs))
            raise _wrong("The inputs are not finite.", f"NaN or Inf in samples {bad[:8]}", "clean these samples.")
        self.inputs, self.labels = inputs, targets
        numbered = _classes(targets)
        self.classes = classes if classes is not None else numbered

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.labels[index]

    def sample_key(self, index: int) -> bytes:
        """Digest of the sample's input: dtype, shape and bytes."""
        row = self.inputs[index]
        digest = hashlib.sha256(f"{row.dtype}{tuple(row.shape)}".encode())
        digest.update(row.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.digest()[:16]

    def target(self, index: int) -> Tensor:
        """The target alone."""
        return self.labels[index]


def load_arrays(path: str | Path) -> Arrays:
    """Arrays from a file: `x` (or inputs, images, data) and `y` (or targets, labels).

    Targets that are a column (N, 1) of whole numbers, one-hot rows (N, C) or texts become class indices (N,).

    Raises:
        DataError: If the file cannot be read, or lacks one of the two.
    """
    path = as_path("load_arrays", "path", path)
    found, names = _load(path)
    inputs, targets = found[_named(found, _INPUT_NAMES, path)], _named(found, _TARGET_NAMES, path)
    try:
        return Arrays(inputs, _as_indices(found[targets]), names.get(targets))
    except DataError as error:
        raise DataError(what=error.what, where=str(path), received=error.received, do=error.do) from None


def load_inputs(path: Path) -> Tensor:
    """The inputs (N, ...) of a file of arrays, with or without targets beside them.

    Raises:
        DataError: If the file cannot be read, or has no array of inputs.
    """
    found, _ = _load(path)
    inputs = found[_named(found, _INPUT_NAMES, path)]
    return inputs.float() if inputs.dtype == torch.float64 else inputs


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    try:
        return _load_npz(path) if path.suffix == ".npz" else (load_file(path), {})
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, SafetensorError) as error:
        raise DataError(
            what="Cannot read arrays from this file.", where=str(path),
            received=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}",
            do="pass an .npz (numbers only, no Python objects) or a .safetensors file.",
        ) from error  # fmt: skip


def _load_npz(path: Path) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """The arrays by name, texts numbered in their alphabetical order; and what the numbers stand for."""
    found: dict[str, Tensor] = {}
    texts: dict[str, tuple[str, ...]] = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            array = archive[name]
            if array.dtype.kind in "US":
                kinds, numbers = np.unique(array.astype(str), return_inverse=True)
                texts[name], array = tuple(map(str, kinds)), numbers.reshape(array.shape).astype(np.int64)
            found[name] = torch.from_numpy(np.ascontiguousarray(array))
    return found, texts


def _named(found: dict[str, Tensor], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in found:
            return name
    raise DataError(
        what=f"The file has no array named {names[0]!r}.", where=str(path),
        received=f"arrays named {', '.join(sorted(found)) or 'nothing'}", do=f"name it one of {', '.join(names)}.",
    )  # fmt: skip


def _as_indices(targets: Tensor) -> Tensor:
    """Class indices (N,) of a column (N, 1) of integers and of one-hot rows (N, C); other targets as they are."""
    if targets.dim() != 2 or targets.is_complex():
        return targets
    if targets.shape[1] == 1:
        return targets if targets.is_floating_point() else targets.squeeze(1)
    is_one_hot = bool(((targets == 0) | (targets == 1)).all()) and bool((targets.sum(1) == 1).all())
    return targets.to(torch.int64).argmax(dim=1) if is_one_hot else targets


def _classes(targets: Tensor) -> tuple[str, ...] | None:
    if targets.is_floating_point() or targets.is_complex() or targets.dim() != 1:
        return None
    targets = targets.long()  # not every whole number of torch has a least one
    if int(targets.min()) < 0:
        at = int(targets.argmin())
        raise _wrong("A label is negative.", f"label {int(targets[at])} of sample {at}", "number the classes from 0.")
    if len(targets.unique()) < 2:
        raise _wrong("There is a single class.", f"label {int(targets[0])} in all {len(targets)} samples",
                     "add samples of another class.")  # fmt: skip
    if int(targets.max()) >= _MOST_CLASSES:
        at = int(targets.argmax())
        raise _wrong("A label is too large for a class index.", f"label {int(targets[at])} of sample {at}",
                     "number the classes from 0, one after the other.")  # fmt: skip
    return tuple(str(label) for label in range(int(targets.max()) + 1))


def _check_rows(name: str, given: Any) -> None:
    is_usable = isinstance(given, Tensor) and not given.is_nested and given.layout is torch.strided
    if not is_usable or given.is_meta or given.is_quantized or not given.dim():
        raise _wrong(f"The {name} are not one tensor with a row for each sample.", describe(given),
                     "pass a dense tensor whose first axis counts the samples: torch.tensor(array).")  # fmt: skip


def _wrong(what: str, received: str, do: str) -> DataError:
    return DataError(what=what, where="the arrays", received=received, do=do)
