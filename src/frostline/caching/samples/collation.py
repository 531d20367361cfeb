"""Samples as a collate function makes them, one at a time, and the proof that it only pads when it gets several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.collate import collated
from frostline.core.errors import DataError, FrostlineError
from frostline.core.item_form import PAIRS, ItemForm
from frostline.core.padding import Number, Padding, own_part, pad_rows
from frostline.core.restore import drawn_generator, generator_states, kept_generators

if TYPE_CHECKING:
    from collections.abc import Sequence

Collate = Callable[[list[Any]], Any]
_LOOKED_AT = 64  # samples whose sizes are compared
_TOGETHER = 8  # of them that are collated together
_WHERE = "collate_fn"


class Collated:
    """A dataset whose items are batches of one sample, as a collate function makes them, without their batch axis.

    Args:
        dataset: A map-style dataset.
        collate_fn: Of its user's `DataLoader`: gets a list of items, gives `(inputs, target)` or a mapping with labels.

        form: Which parts of its batches are inputs.

    Attributes:
        dataset: The dataset.
        collate_fn: The function.
    """

    def __init__(self, dataset: Any, collate_fn: Collate, form: ItemForm = PAIRS) -> None:
        batches.check_map_style(dataset)
        self.dataset, self.collate_fn, self._form = dataset, collate_fn, form

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self._alone(batches.read(self.dataset, index), index)

    @property
    def indices(self) -> range:
        """The sample of each position, as a part of a dataset has it: labels are found through it."""
        return range(len(self.dataset))

    def padding(self) -> Padding:
        """How the function pads.

        Raises:
            DataError: If it does anything else when it gets several samples than when it gets each alone.
        """
        count = len(self)
        chosen = torch.linspace(0, count - 1, min(count, _LOOKED_AT), device="cpu").long().unique().tolist()
        with kept_generators():
            items = {index: batches.read(self.dataset, index) for index in chosen}
            alone = {index: self._alone(items[index], index) for index in chosen}
            names = [batches.leaves(own).keys() for own in alone.values()]
            if any(own != names[0] for own in names):
                raise _more("gives other tensors for other samples", f"{', '.join(names[0])} for sample {chosen[0]}")
            by_size = sorted(chosen, key=lambda index: _num_values(alone[index]))
            spread = [
                by_size[at]
                for at in torch.linspace(0, len(by_size) - 1, _TOGETHER, device="cpu").long().unique().tolist()
            ]
            padding = self._found(items, alone, spread)
            groups = [spread[::-1], *([a, b] for a, b in pairwise([*spread, spread[0]])), chosen[:_TOGETHER]]
            for group in groups:
                self._compare(items, alone, group, padding)
        return padding

    def _found(self, items: dict[int, Any], alone: dict[int, Any], group: list[int]) -> Padding:
        """The values at padded places of a group with different sizes; nothing is compared but what shows them."""
        together = self._together(items, alone, group)
        tensors = [batches.leaves(alone[index]) for index in group]
        sides: dict[str, list[dict[bool, Number]]] = {}  # by name: of each padded sample, the sides that it may be on
        for name, whole in batches.leaves(together).items():
            for at, own in enumerate(tensors):
                mine = own[name]
                if whole.dim() != mine.dim() + 1 or len(whole) != len(group):
                    raise self._reason(together, alone, group, name)
                if not _holds(whole[at], mine):
                    raise self._reason(together, alone, group, name)
                if whole[at].shape != mine.shape and (found := _sides(whole[at], mine)):
                    sides.setdefault(name, []).append(found)
        shared = {True, False}.intersection(*(found for own in sides.values() for found in own))
        if not shared:
            raise _more("pads some tensors on the left and others on the right", ", ".join(sides))
        is_left = False not in shared  # zeros behind zeros may be padded on either side
        values = {name: own[0][is_left] for name, own in sides.items()}
        axes = {
            name: tuple(axis for axis in range(own.dim()) if len({t[name].shape[axis] for t in tensors}) > 1)
            for name, own in tensors[0].items() if name in values
        }  # fmt: skip
        return Padding(_under("0", values), _under("1", values), is_left, _under("0", axes))

    def _compare(self, items: dict[int, Any], alone: dict[int, Any], group: list[int], padding: Padding) -> None:
        together = self._together(items, alone, group)
        inputs, targets = zip(*(alone[index] for index in group), strict=True)
        names = batches.leaves(together)
        expected = [batches.leaves(own) for own in inputs], [batches.leaves(own) for own in targets]
        for name, whole in names.items():
            side, values = (
                (expected[0], padding.inputs) if name.split(".")[0] == "0" else (expected[1], padding.targets)
            )
            own_name = name[2:] or "0"
            rows = [own[own_name] for own in side]
            made = pad_rows(rows, values.get(own_name, 0), is_left=padding.is_left)
            if made.shape != whole.shape or made.dtype != whole.dtype or not torch.equal(made, whole):
                raise self._reason(together, alone, group, name)

    def _reason(self, together: Any, alone: dict[int, Any], group: list[int], name: str) -> FrostlineError:
        """What else the function does than to pad."""
        whole = batches.leaves(together)[name]
        mine = [batches.leaves(alone[index])[name] for index in group]
        label = name[2:] or ("the target" if name[0] == "1" else "the input")
        shapes = ", ".join(str(tuple(own.shape)) for own in mine[:4])
        seen = f"{label}: {batches.describe(whole)} for {len(group)} samples of {shapes}"
        if not whole.dim() or len(whole) != len(group):
            return _more("gives another number of rows than it gets samples (it drops or joins some)", seen)
        if whole.dim() != mine[0].dim() + 1:
            return _more("gives tensors of another rank for several samples than for one", seen)
        largest = [max(sizes) for sizes in zip(*(x.shape for x in mine), strict=True)]
        if any(a < b for a, b in zip(whole.shape[1:], largest, strict=True)):
            return _more("truncates samples to the batch", seen)
        rows = [[_holds(row, own) for own in mine] for row in whole]
        if all(any(own) for own in rows) and not all(own[at] for at, own in enumerate(rows)):
            return _more("sorts the samples of a batch", seen)
        if all(own[at] for at, own in enumerate(rows)):
            return _more("pads further than to the longest sample, or with more than one value", seen)
        return _more("changes the values of a sample by its batch (it augments, masks or normalises)", seen)

    def _together(self, items: dict[int, Any], alone: dict[int, Any], group: Sequence[int]) -> Any:
        """(inputs, target) of several samples, made twice, with the tensors that each of them has alone.

        Raises:
            DataError: If the two differ, or a tensor is there for several samples only, or for one only.
        """
        before = generator_states()
        found = self._unpacked([items[index] for index in group], group[0])
        again = self._unpacked([items[index] for index in group], group[0])
        pairs = zip(batches.leaves(found).values(), batches.leaves(again).values(), strict=True)
        if any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs) or drawn_generator(before):
            raise _more("is random", "two different batches of the same samples, or a generator that advanced")
        names = [", ".join(batches.leaves(own)) for own in (found, alone[group[0]])]
        if names[0] != names[1]:
            raise _more(
                "gives other tensors for several samples than for one",
                f"{names[0]} for several samples; {names[1]} for one",
            )
        return found

    def _alone(self, item: Any, index: int) -> Any:
        """(inputs, target) of one sample, without the batch axis."""
        inputs, target = self._unpacked([item], index)
        for name, tensor in batches.leaves((inputs, target)).items():
            if not tensor.dim() or tensor.shape[0] != 1:
                raise DataError(
                    what="The collate function gives no batch axis of one for one sample.",
                    where=f"{_WHERE}([dataset[{index}]]), {name[2:] or name}", received=batches.describe(tensor),
                    do="put the batch axis first (pad_sequence(..., batch_first=True)), and return tensors with a row "
                    "for each sample: lengths as torch.tensor([len(x) for x in batch]).",
                )  # fmt: skip
            if 0 in tensor.shape:
                raise DataError(
                    what="A sample has the length 0.", where=f"dataset[{index}], {name[2:] or name}",
                    received=batches.describe(tensor), do="leave empty samples out of the dataset.",
                )  # fmt: skip
        return batches.map_tensors((inputs, target), lambda x: x[0])

    def _unpacked(self, items: list[Any], index: int) -> Any:
        """(inputs, target) of a batch, as tensors."""
        batch = self._called(items, index)
        try:
            return _tensors(self._form.unpack(batch, index))
        except DataError as error:
            raise DataError(
                what="A batch of the collate function must be (inputs, target), or a mapping with a 'label' or "
                "'labels'.",
                where=f"{_WHERE}([dataset[{index}], ...])", received=error.received,
                do="return a pair, for example (padded, torch.tensor(labels)); several inputs as a tuple or a mapping "
                "in its first place.",
            ) from error  # fmt: skip

    def _called(self, items: list[Any], index: int) -> Any:
        try:
            return self.collate_fn(items)
        except FrostlineError:
            raise
        except Exception as error:
            raise DataError(
                what="The collate function fails.", where=f"{_WHERE}([dataset[{index}], ...])",
                received=f"{type(error).__name__}: {error}",
                do="pass the collate_fn of your DataLoader: it gets a list of the dataset's items, of one item too.",
            ) from error  # fmt: skip


def _tensors(pair: tuple[Any, Any]) -> Any:
    return collated(pair[0]), collated(pair[1])


def _under(side: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name[2:] or "0": value for name, value in found.items() if name.split(".")[0] == side}


def _num_values(sample: Any) -> int:
    return sum(tensor.numel() for tensor in batches.leaves(sample).values())


def _holds(row: Tensor, own: Tensor) -> bool:
    return all(a >= b for a, b in zip(row.shape, own.shape, strict=True)) and any(
        torch.equal(own_part(row, own.shape, is_left=is_left), own) for is_left in (False, True)
    )


def _sides(row: Tensor, own: Tensor) -> dict[bool, Number]:
    """The value at padded places by the side that they may be on: True for the left."""
    found: dict[bool, Number] = {}
    for is_left in (False, True):
        is_padded = torch.ones_like(row, dtype=torch.bool)
        own_part(is_padded, own.shape, is_left=is_left).fill_(False)
        padded = row[is_padded]
        if torch.equal(own_part(row, own.shape, is_left=is_left), own) and len(padded.unique()) == 1:
            found[is_left] = padded[0].item()
    return found


def _more(does: str, received: str) -> DataError:
    return DataError(
        what=f"The collate function does more than pad: it {does}.", where=_WHERE, received=received,
        do="do that work in the dataset's __getitem__, for each sample by itself, and only pad in collate_fn; or train "
        "with frostline.fit(..., cache=False).",
    )  # fmt: skip
