"""The model of a command: pretrained weights, a new head for the classes of the data, and what is frozen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from frostline.core.errors import DataError
from frostline.recipes.pretrained import load_pretrained
from frostline.transfer import freeze, replace_head

if TYPE_CHECKING:
    from torch import nn


def set_up(
    model: nn.Module, dataset: Any, name: str, weights: str | None, freeze_through: str | None,
    certificate: str | None, head_name: str | None = None, *, freezes: bool = True,
) -> str:  # fmt: skip
    """Weights, a new head for the dataset's classes, and the freeze, unless it is left out; returns what was reused."""
    if weights is None and is_random(name):
        sys.stderr.write("No --weights: the frozen layers are random, not pretrained.\n")
    head, first = with_head(model, classes_of(dataset), name, weights, certificate, head_name)
    if freeze_through is not None:
        freeze(model, freeze_through)
    elif freezes:
        kept = {id(parameter) for parameter in head.parameters()}
        freeze(model, parameters=[p for p in model.parameters() if id(p) not in kept])
    return first


def classes_of(dataset: Any) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        DataError: If the targets are numbers.
    """
    if dataset.classes is None:
        raise DataError(
            what="The targets are not class indices.", where="DATA", received="numbers",
            do="use the library for regression: frostline.fit(model, data, loss='mse').",
        )  # fmt: skip
    return tuple(dataset.classes)


def with_head(
    model: nn.Module, classes: tuple[str, ...], name: str, weights: str | None, certificate: str | None,
    head_name: str | None = None,
) -> tuple[nn.Module, str]:  # fmt: skip
    """Weights and a head, and what was reused."""
    if weights is not None:
        return load_pretrained(model, weights, classes, spec=name, certificate=certificate, head=head_name)
    if certificate is not None:
        raise DataError(
            what="There is nothing to certify: no weights are given.", where="--certificate", received=certificate,
            do="give the weights, too: --weights FILE.",
        )  # fmt: skip
    reused = "nothing (random layers)" if is_random(name) else f"the layers as {name} makes them (no --weights)"
    return replace_head(model, len(classes), name=head_name), reused


def is_random(name: str) -> bool:
    """True if a model of this name is built without weights; a function of the user's own may have loaded some."""
    return name.startswith(("timm:", "hf:"))
