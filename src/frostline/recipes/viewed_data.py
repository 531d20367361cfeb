"""Training data with random augmentation in seeded views; validation data, which is the same in every epoch."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from frostline.caching import IS_RANDOM, CachedDataset, Collated, Views, viewed
from frostline.core.arguments import as_count, check_callable, check_flag
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator

    from frostline.core.item_form import ItemForm


def shown_data(
    train: Any, val: Any, views: int | None, epochs: int, collate_fn: Any, form: ItemForm, *, by_length: bool
) -> tuple[Any, Any, Any]:  # fmt: skip
    """(training data as `fit` reads it, validation data, collate function) of a run; see `viewed_data`."""
    train, val, collate_fn = collated_samples(train, val, views, collate_fn, form)
    return viewed_data(train, views, epochs, collate_fn, by_length=by_length), val, collate_fn


def viewed_data(
    train: Any, views: int | None, epochs: int, collate_fn: Any = None, *, by_length: bool = False
) -> Any:  # fmt: skip
    """The training data as `fit` reads it: so many views of each sample, and no more than there are epochs.

    Args:
        train: A dataset, or cached features.
        views: As `fit` takes them; None leaves the data as they are.
        collate_fn: As `fit` takes it; it is checked.
        by_length: As `fit` takes it; it is checked.
        epochs: Of the run. Each gives one view, so that further views would be stored for nothing.

    Raises:
        DataError: If the number is no number of views, or the data are features already.
    """
    check_collate(collate_fn, train)
    check_by_length(by_length, train, collate_fn)
    if views is None:
        return train
    views = as_count("fit", "views", views)
    if isinstance(train, CachedDataset):
        raise DataError(
            what="The views of cached features were chosen when they were filled.", where="fit(views=...)",
            received=f"views={views} and a CachedDataset with {train.views}",
            do=f"leave views out, or fill again: FeatureCache.fill(split, dataset, views={views}).",
        )  # fmt: skip
    return viewed(train, "fit", min(views, epochs))


def collated_samples(
    train: Any, val: Any, views: int | None, collate_fn: Any, form: ItemForm
) -> tuple[Any, Any, Any]:  # fmt: skip
    """(training data, validation data, collate function) of a run with views: samples as the function makes them alone.

    Where it only stacks samples of one size, batches of these samples are its batches.

    Args:
        train: A dataset, or cached features.
        val: Validation data, or None.
        views: As `fit` takes them; without, everything stays as it is.
        collate_fn: As `fit` takes it.
        form: Which parts of its batches are inputs.

    Raises:
        DataError: If the function does more than stack, or the samples differ in size.
    """
    if views is None or collate_fn is None or isinstance(train, CachedDataset):
        return train, val, collate_fn
    check_callable("fit", "collate_fn", collate_fn, takes="(list of items), as torch.utils.data.DataLoader takes it")
    samples = Collated(train, collate_fn, form)
    if varying := ", ".join(samples.padding().inputs):
        raise DataError(
            what="Of samples that differ in length no views are kept.", where="fit(views=..., collate_fn=...)",
            received=f"views={views}; the size of the input {varying} follows the sample",
            do="pad or crop all samples to one size in the dataset; FeatureCache.fill takes both, for your own loop.",
        )  # fmt: skip
    return samples, Collated(val, collate_fn, form) if val is not None else None, None


def check_collate(collate_fn: Any, train: Any) -> None:
    """Check what `fit` takes to make batches of samples.

    Raises:
        DataError: If it is no function, or the data are features, whose batches are made elsewhere.
    """
    if collate_fn is None:
        return
    check_callable("fit", "collate_fn", collate_fn, takes="(list of items), as torch.utils.data.DataLoader takes it")
    if isinstance(train, CachedDataset):
        raise DataError(
            what="Batches of cached features are not made by a collate function.",
            where="fit(collate_fn=...)", received="a CachedDataset",
            do="leave collate_fn out: FeatureCache.fill(..., collate_fn=...) has taken it.",
        )  # fmt: skip


def check_by_length(by_length: Any, train: Any, collate_fn: Any) -> None:
    """Check that there are lengths to sort samples by.

    Raises:
        DataError: If all samples have one length.
    """
    if not check_flag("fit", "by_length", by_length):
        return
    if collate_fn is None and not (isinstance(train, CachedDataset) and train.lengths is not None):
        raise DataError(
            what="Without a collate function all samples have one length.", where="fit(by_length=True)",
            received="collate_fn=None", do="pass the collate_fn that pads your samples, or leave by_length out.",
        )  # fmt: skip


def without_views(train: Any) -> Any:
    """The dataset behind views; other data as they are."""
    return train.dataset if isinstance(train, Views) else train


@contextmanager
def steady_validation() -> Generator[None]:
    """Inside, validation data is read: if it is random, the error says what validation data needs."""
    try:
        yield
    except DataError as error:
        if not error.what.startswith(IS_RANDOM):
            raise
        raise DataError(
            what="The validation data is random: scores of two epochs could not be compared.",
            where=f"fit(val=...), {error.where}", received=error.received,
            do="give validation data a deterministic transform, such as Resize and CenterCrop, in a dataset of its "
            "own; views are for training data.",
        ) from error  # fmt: skip
