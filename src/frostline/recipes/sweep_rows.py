"""The rows of a sweep: which of them are held out, and whether heads can be trained and compared on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.caching import CachedDataset, first_view
from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.data import labels_of, split_share
from frostline.training import ignored_label, is_cross_entropy, is_stateless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

_AT_ONCE = 4096  # targets for which the loss is called together


def split_rows(data: Any, val: Any, share: float, seed: int) -> tuple[CachedDataset, CachedDataset]:
    """(training rows, held-out rows): a share of every class where the targets are classes, else of all.

    Raises:
        DataError: If these are no stored rows, or the share leaves one part without any.
    """
    for where, own in (("sweep(data)", data), ("sweep(val=...)", val)):
        if own is None and where != "sweep(data)":
            continue
        if not isinstance(own, CachedDataset):
            raise DataError(
                what="A sweep trains on stored rows.", where=where, received=batches.describe(own),
                do="fill both through the same split: data = frostline.FeatureCache(folder).fill(split, dataset); or "
                "pass the whole model and datasets.",
            )  # fmt: skip
        if not len(own):
            raise DataError(
                what="There are no rows to train on.", where=where, received="a cached dataset of length 0",
                do="fill the cache from a dataset with samples.",
            )  # fmt: skip
    if val is not None:
        if val.views > 1:
            raise DataError(
                what="Validation data has several views, of which each epoch would see another.",
                where="sweep(val=...)", received=f"{val.views} views",
                do="fill the validation data without views, from a deterministic dataset.",
            )  # fmt: skip
        return data, val
    if labels_of(data) is not None:
        train, held = (part.indices for part in split_share(data, share, seed))
    else:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
        count = round(share * len(data))
        train, held = sorted(order[count:]), sorted(order[:count])
    if not train or not held:
        raise DataError(
            what="The share leaves training or validation without rows.", where="sweep(val_share=...)",
            received=f"{share:g} of {len(data)} rows", do="pass another share, or val=: rows of validation data.",
        )  # fmt: skip
    return data.part(train), first_view(data.part(held))  # all epochs and heads are compared on the same rows


def check_rows(
    head: nn.Module, features: tuple[Tensor, ...], loss: Any, loss_fn: Callable[[Any, Any], Tensor],
    rows: Mapping[str, CachedDataset],
) -> None:  # fmt: skip
    """Raise if targets cannot be used, before anything is trained.

    Args:
        head: A copy of the head.
        features: A batch of them.
        loss: As the caller gave it.
        loss_fn: The same as a callable.
        rows: By the argument, for the error.

    Raises:
        DataError: If targets are not finite, all of one class, no class of the head, or ignored.
    """
    with torch.no_grad():
        head.eval()
        output = head(*features)
    for where, data in rows.items():
        targets = data.targets
        if not batches.are_finite(targets):
            raise DataError(
                what="The targets are not finite.", where=where, received=f"NaN or Inf in {_first_odd(targets)}",
                do="remove or correct these samples, and fill the cache again.",
            )  # fmt: skip
        labels = labels_of(data)
        ignored = ignored_label(loss)
        if labels is not None and is_cross_entropy(loss):
            _check_labels(labels[labels != ignored], where, is_training=where == "sweep(data)")
        if is_stateless(loss) and isinstance(output, Tensor):
            nothing = torch.zeros_like(output[:1])
            for part in targets.split(_AT_ONCE) if isinstance(targets, Tensor) else ():
                loss_fn(nothing.expand(len(part), *output.shape[1:]), part.to(output.device))


def _check_labels(counted: Tensor, where: str, *, is_training: bool) -> None:
    found = counted.unique().tolist()
    if not found:
        raise DataError(
            what="No row has a label.", where=where, received="ignored labels only",
            do="check the labels: -100 stands for 'no label here'.",
        )  # fmt: skip
    if len(found) == 1 and is_training:
        raise DataError(
            what="All rows are of one class: there is nothing to separate.", where=where,
            received=f"{len(counted)} labels, each of them {found[0]}", do="pass rows of two classes or more.",
        )  # fmt: skip


def _first_odd(targets: Any) -> str:
    for tensor in batches.leaves(targets).values():
        if tensor.is_floating_point():
            odd = batches.rows_where(~torch.isfinite(tensor))
            if odd:
                return f"{len(odd)} targets, the first that of row {odd[0]}"
    return "the targets"
