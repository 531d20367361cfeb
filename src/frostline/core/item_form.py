"""Which parts of a dataset's item a model takes, and which are the target."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.inputs import LABEL_KEYS, NO_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class ItemForm:
    """How an item becomes (inputs, target); without any argument: a pair, or a mapping with a label.

    Attributes:
        keep: Label keys that stay among the inputs.
        count: Inputs that the model takes by position; 0 where that is not known.
        names: Inputs that it takes by name.
        others: More names that it could take: they never become a target.
        takes_any: It takes any name, so that no key can be told to be the target.
    """

    keep: frozenset[str] = frozenset()
    count: int = 0
    names: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    takes_any: bool = False

    def unpack(self, item: Any, index: int | str) -> tuple[Any, Any]:
        """(inputs, target) of one item, as copies; a target of `()` stands for none.

        Besides pairs and mappings with a label: `count` inputs and then the target, or several, or none; a mapping with
        the inputs, and the target under the keys that the model does not take.

        Args:
            item: Of a dataset, or a batch of a collate function.
            index: Position in the dataset, for the error.

        Raises:
            DataError: If the item has no such form.

        Example:
            >>> ItemForm(count=2).unpack((1, 2, 3), 0), ItemForm(count=2).unpack((1, 2), 0)
            (((1, 2), 3), ((1, 2), ()))
            >>> ItemForm(names=frozenset({"image"})).unpack({"image": 1, "mask": 2}, 0)
            ({'image': 1}, 2)
        """
        pair = self._by_name(item) if isinstance(item, Mapping) else self._by_place(item)
        if pair is None:
            return batches.unpack(item, index, self.keep)
        return batches.unpack(pair, index)

    @property
    def could_take_more(self) -> bool:
        """True if the model takes more inputs by their places than it needs."""
        return bool(self.count) and len(self.others) > self.count

    def is_unclear(self, item: Any) -> bool:
        """True for several parts behind those that the model needs, if it could take more of them than it needs."""
        is_plain = isinstance(item, (tuple, list)) and self.could_take_more
        return is_plain and len(cast("Sequence[Any]", item)) > self.count + 1

    def _by_name(self, item: Mapping[str, Any]) -> tuple[Any, Any] | None:
        taken = {key: own for key, own in item.items() if key in self.names or key in self.others or self.takes_any}
        if any(key in item for key in LABEL_KEYS) or not taken or not self.names <= set(taken):
            return None
        rest = {key: own for key, own in item.items() if key not in taken}
        return taken, next(iter(rest.values())) if len(rest) == 1 else rest or NO_TARGET

    def _by_place(self, item: Any) -> tuple[Any, Any] | None:
        if isinstance(item, (Tensor, np.ndarray)):
            return (item, NO_TARGET) if self.count == 1 else None
        if not isinstance(item, (tuple, list)) or not self.count:
            return None
        parts = tuple(cast("Sequence[Any]", item))
        is_pair = len(parts) == 2 and (self.count == 1 or isinstance(parts[0], (Mapping, tuple, list)))
        if is_pair or len(parts) < self.count:
            return None
        inputs, rest = parts[: self.count], parts[self.count :]
        return inputs[0] if self.count == 1 else inputs, rest[0] if len(rest) == 1 else rest or NO_TARGET


PAIRS = ItemForm()


def form_of(example: Any, forward: Callable[..., Any]) -> ItemForm:
    """The form of items whose inputs are those of an example.

    Args:
        example: A batch as the model takes it.
        forward: Of the model, whose other arguments are no targets.
    """
    names, takes_any = _arguments(forward)
    if isinstance(example, Mapping):
        own = frozenset(cast("Mapping[str, Any]", example))
        return ItemForm(own.intersection(LABEL_KEYS), names=own, others=frozenset(names) - {*LABEL_KEYS},
                        takes_any=takes_any)  # fmt: skip
    return ItemForm(count=len(cast("Sequence[Any]", example)) if isinstance(example, (tuple, list)) else 1)


def form_by_signature(forward: Callable[..., Any]) -> ItemForm:
    """The form of items for a model that nobody has shown an example of: by what `forward` cannot do without."""
    names, takes_any = _arguments(forward)
    needed = [name for name, is_needed in names.items() if is_needed]
    keep = frozenset(needed).intersection(LABEL_KEYS)
    return ItemForm(keep, len(needed), others=frozenset(names) - {*LABEL_KEYS}, takes_any=takes_any)


def _arguments(forward: Callable[..., Any]) -> tuple[dict[str, bool], bool]:
    """(the arguments by name, and whether they have no default; whether any other name is taken)."""
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return {}, True
    by_name = [own for own in parameters if own.kind in (own.POSITIONAL_OR_KEYWORD, own.KEYWORD_ONLY)]
    return (
        {own.name: own.default is own.empty for own in by_name},
        any(own.kind is own.VAR_KEYWORD for own in parameters),
    )
