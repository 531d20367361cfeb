"""Single samples as a batch: their inputs stacked, their targets as tensors, and what a collate function returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.utils.data import default_collate

from frostline.core.errors import DataError
from frostline.core.inputs import NO_TARGET, describe, leaves, map_arrays, map_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # torch can neither compare nor choose rows of these


def collate(items: Sequence[Any], indices: Sequence[int]) -> Any:
    """Stack the inputs of several samples into a batch.

    Args:
        items: Inputs of single samples: tensors, arrays, numbers, tuples or mappings of them.
        indices: Their positions in the dataset, for the error.

    Raises:
        DataError: If shapes or types differ between the samples; the first that differs is named.
    """
    odd = _odd_one(items)
    try:
        if odd is None:
            with torch.no_grad():  # samples are data, even where a dataset asks for their gradients
                return default_collate(list(items))
        reason: Exception | None = None
    except (TypeError, RuntimeError, KeyError, ValueError) as error:
        reason = error
        first = describe(items[0])
        odd = next((at for at in range(len(items)) if describe(items[at]) != first), None)
    if odd is None:
        raise DataError(
            what="The samples cannot be stacked into a batch.",
            where=f"dataset[{indices[0]}]",
            received=describe(items[0]),
            do="return tensors, arrays or numbers, inputs and target (torchvision.transforms.ToTensor() for images).",
        ) from reason
    raise DataError(
        what="The samples of a batch do not fit together.",
        where=f"dataset[{indices[odd]}]",
        received=f"{describe(items[odd])}; dataset[{indices[0]}] is {describe(items[0])}",
        do="make every item the same shape and type (resize, crop or pad in the dataset's transform); samples of "
        "differing length are padded by collate_fn=, as fit and fill take it.",
    ) from reason


def _odd_one(items: Sequence[Any]) -> int | None:
    """The first item with tensors of another dtype than the first: stacking would convert them silently."""
    kinds = [[tensor.dtype for tensor in leaves(item).values()] for item in items]
    return next((at for at, kind in enumerate(kinds) if kind != kinds[0]), None)


def collate_targets(targets: Sequence[Any], indices: Sequence[int]) -> Any:
    """Stack targets into a tensor; Python floats become float32, unsigned whole numbers of many bits int64.

    Raises:
        DataError: If one is a text, bytes or None, or they do not fit together.
    """
    if all(isinstance(target, tuple) and not target for target in targets):
        return NO_TARGET
    odd = next((at for at, target in enumerate(targets) if target is None or isinstance(target, (str, bytes))), None)
    if odd is not None:
        raise DataError(
            what="The targets are not numbers.", where=f"dataset[{indices[odd]}]",
            received="None" if targets[odd] is None else f"the text {targets[odd]!r}",
            do="number the classes: names = sorted(set(labels)), and return names.index(label) as the target.",
        )  # fmt: skip
    stacked = _stacked_targets(targets, indices)
    return map_tensors(stacked, lambda target: target.long() if target.dtype in _UNSIGNED else target)


def _stacked_targets(targets: Sequence[Any], indices: Sequence[int]) -> Any:
    targets = [int(target) if isinstance(target, np.unsignedinteger) else target for target in targets]
    if all(isinstance(target, float) for target in targets):
        return torch.tensor(targets, dtype=torch.float32)
    if len({type(target) for target in targets}) > 1:  # known targets come back as tensors, new ones as numbers
        try:
            targets = [torch.as_tensor(target) for target in targets]
        except (TypeError, ValueError, RuntimeError):  # texts and None among numbers: named by the next line
            return collate(targets, indices)
        kind = torch.float32 if any(target.is_floating_point() for target in targets) else torch.int64
        targets = [target.to(kind) for target in targets]
    return collate(targets, indices)


def collated(values: Any) -> Any:
    """What a collate function returned, its arrays and numbers as tensors.

    Raises:
        DataError: If a value is an object of another kind, such as a batch of graphs.
    """
    try:
        return map_arrays(dict(cast("Any", values)) if isinstance(values, Mapping) else values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            what="The collate function returns an object that is no tensor.", where="collate_fn(items)",
            received=f"{describe(values)}: {(str(error).splitlines() or [''])[0]}",
            do="return the tensors that it holds, (x, edge_index, batch, target) for a batch of graphs, and build the "
            "object in forward.",
        ) from error  # fmt: skip
