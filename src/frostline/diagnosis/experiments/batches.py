"""Batches as trials need them: in memory, some held out, rows known by their content."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.arguments import check_model
from frostline.core.errors import FOREIGN, DataError
from frostline.diagnosis.experiments.score import score
from frostline.diagnosis.probes.outliers import outlying_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Batch = tuple[Any, Any]

_FEW = 64  # distinct inputs: the truth table of six
_VERDICT = 10, 4  # one in so many rows is for the verdict: of rows that come again in each epoch, and of new ones
_SOON = 2.0  # times as many passes as there would be if every input came once in each: they were drawn one by one
_FEW_SINGLE = 0.05  # of the rows that are held out, each in a batch of its own: they are spared
_AT_ONCE = 2**20  # values of inputs that are scored in one go


def check_given(model: Any, given: Any, loss_fn: Any, where: str, scaler: Any = None) -> None:
    """Raise unless these are what a training needs.

    Raises:
        DataError: It names the argument.
    """
    if isinstance(model, nn.Module):
        check_model(
            where, model, needs=("values", "training") if where == "checkup" else ("shapes", "values", "training")
        )
    else:
        raise DataError(
            what="That is no model.", where=f"{where}(model, ...)", received=_kind(model),
            do="pass the module that trains, an instance of torch.nn.Module.",
        )  # fmt: skip
    if isinstance(given, type) or (not hasattr(given, "__iter__") and not hasattr(given, "__getitem__")):
        raise DataError(
            what="The batches cannot be gone through.", where=f"{where}(model, batches, ...)", received=_kind(given),
            do="pass a DataLoader, or a list of (inputs, target).",
        )  # fmt: skip
    if not callable(loss_fn) or isinstance(loss_fn, type):
        raise DataError(
            what="The loss cannot be called with an output and a target.", where=f"{where}(..., loss_fn)",
            received=_kind(loss_fn),
            do="pass a function, such as torch.nn.functional.cross_entropy, or an instance: nn.CrossEntropyLoss().",
        )  # fmt: skip
    if scaler is not None and (isinstance(scaler, type) or not hasattr(scaler, "unscale_")):
        raise DataError(
            what="That is no scaler of gradients.", where=f"{where}(scaler=...)", received=batches.describe(scaler),
            do="pass your torch.amp.GradScaler, or leave it out.",
        )  # fmt: skip


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"{type(value).__name__} {value!r:.40}"


def as_batches(given: Iterable[Any], model: nn.Module, steps: int | None) -> list[Batch]:
    """Batches of (inputs, target) on the model's device.

    Args:
        given: Pairs of inputs and target.
        model: Batches go to its device.
        steps: How many; None takes all.

    Raises:
        DataError: If there are none, or fewer than `steps`, or an item is not a pair of dense tensors.
    """
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise DataError(
            what="The model has no parameters: there is nothing to check.", where=type(model).__name__,
            received="0 parameters", do="pass the module that trains.",
        )  # fmt: skip
    found: list[Batch] = []
    keep = batches.required_labels(model.forward)
    for at, item in enumerate(given):
        if steps is not None and at >= steps:
            break
        inputs, target = batches.unpack(item, at, keep)
        _check_dense(inputs, target, at)
        inputs, target = (batches.map_tensors(part, Tensor.detach) for part in (inputs, target))
        if batches.batch_size(inputs) == 0:
            raise DataError(
                what="A batch has no samples.", where=f"batches[{at}]", received=batches.describe(inputs),
                do="leave empty batches out: [batch for batch in batches if len(batch[1])].",
            )  # fmt: skip
        found.append((batches.move(inputs, parameter.device), batches.move(target, parameter.device)))
    if steps is not None and 2 <= len(found) < steps:
        raise DataError(
            what="The batches ran out.", where=f"steps={steps}", received=f"{len(found)} batches",
            do="pass more of them, such as a few epochs of a loader, or set fewer steps.",
        )  # fmt: skip
    if len(found) < 2:
        raise DataError(
            what="There are too few batches.", where="batches", received=f"{len(found)} batches",
            do="pass a list of some dozens of batches, or a DataLoader; an iterator that has been used up gives none.",
        )  # fmt: skip
    return found


def _check_dense(inputs: Any, target: Any, at: int) -> None:
    for what, part in (("inputs", inputs), ("target", target)):
        for name, tensor in batches.leaves(part).items():
            if tensor.layout is not torch.strided:
                place = "" if part is tensor else f", {name}"
                raise DataError(
                    what="A batch holds a sparse tensor, of which rows cannot be measured or taken out.",
                    where=f"batch {at}, {what}{place}", received=f"layout {tensor.layout}",
                    do="pass it dense (x.to_dense()), and make it sparse in the model's forward or in the loss.",
                )  # fmt: skip


def held_out(
    data: Sequence[Batch], fold: int = 0, *, spread: bool = False, divides: bool = True
) -> tuple[list[Batch], list[Batch]]:  # fmt: skip
    """(batches to train on, batches to judge by): no row is in both.

    The last fifth is held out if its rows are new, or batches cannot be divided. Where epochs repeat their rows, a
    fifth of the rows is held out: they are taken out of every batch. Rows that are far out of the data stay in
    training, and are not judged by.

    Where few distinct inputs come again and again (a truth table, categories), a network cannot predict those that it
    was not trained on: then the last fifth of the batches is held out, and what is nowhere else stays in training, too.

    Args:
        data: The batches.
        fold: Which fifth of repeated rows is held out, 0 to 4.
        spread: True takes rows out of every batch where all are new, too.
        divides: False if the model takes no batches of fewer rows.
    """
    count = max(1, len(data) // 5)
    odd = outlying_rows(data)
    keys = [row_keys(inputs) for inputs, _ in data]
    seen = {key for batch in keys[:-count] for key in batch}
    is_new = not seen & {key for batch in keys[-count:] for key in batch}
    if not is_new and _are_few(data, keys):
        unknown = [any(key not in seen for key in batch) for batch in keys[-count:]]
        late = [batch for batch, is_unknown in zip(data[-count:], unknown, strict=True) if is_unknown]
        return [*data[:-count], *late], _without(data[-count:], odd[-count:])
    if (is_new and not spread) or not divides or not all(_is_divisible(*batch) for batch in data):
        return list(data[:-count]), _without(data[-count:], odd[-count:])
    outlying = {batch[at] for batch, rows in zip(keys, odd, strict=True) for at in rows.nonzero().flatten().tolist()}
    held = {key for batch in keys for key in batch if key % 5 == fold} - outlying
    rest: list[Batch] = []
    judged: list[Batch] = []
    taken: set[int] = set()
    for (inputs, target), batch in zip(data, keys, strict=True):
        kept = [at for at, key in enumerate(batch) if key not in held]
        new = [at for at, key in enumerate(batch) if key in held and key not in taken]
        taken.update(batch[at] for at in new)
        rest += [_rows(inputs, target, kept)] if len(kept) > 1 or len(kept) == len(batch) else []
        judged += [_rows(inputs, target, new)] if new else []
    if not rest or not judged:
        return list(data[:-count]), _without(data[-count:], odd[-count:])
    several = [batch for batch in judged if batches.batch_size(batch[0]) > 1]  # BatchNorm takes no single row
    return rest, several if len(judged) - len(several) <= _FEW_SINGLE * len(taken) else judged


@dataclass(frozen=True)
class Parts:
    """Batches by what they are used for.

    Attributes:
        trained: Trained on.
        decides: Compared by.
        fresh: For the verdict alone; empty where none could be kept for it.
        is_apart: True if no input of these is in the others.
    """

    trained: list[Batch]
    decides: list[Batch]
    fresh: list[Batch]
    is_apart: bool


def three_parts(data: Sequence[Batch], *, divides: bool = True) -> Parts:
    """The first four fifths are trained on, the last fifth decides, and some rows are kept for the verdict.

    Of the last fifth a quarter of the rows is for the verdict if they are new; where epochs repeat their rows, a tenth
    of all rows is, and these are taken out of every batch. Where batches cannot be divided, or few distinct inputs come
    again and again, every other batch of the last fifth is.

    Args:
        data: The batches.
        divides: False if the model takes no batches of fewer rows.
    """
    count = max(1, len(data) // 5)
    rest, late = list(data[:-count]), list(data[-count:])
    keys = [row_keys(inputs) for inputs, _ in data]
    known = {key for batch in keys[:-count] for key in batch}
    is_new = not known & {key for batch in keys[-count:] for key in batch}
    are_whole = not divides or not all(_is_divisible(*batch) for batch in data)
    if are_whole or (not is_new and _are_few(data, keys)):
        others = known | {key for batch in keys[-count::2] for key in batch}
        return Parts(rest, late[::2], late[1::2], not others & {key for one in keys[-count + 1 :: 2] for key in one})
    every = _VERDICT[1] if is_new else _VERDICT[0]
    asked = keys[-count:] if is_new else keys
    chosen = {key for batch in asked for key in batch if key % every == 0}
    fresh: list[Batch] = []
    left = set(chosen)
    for (inputs, target), batch in zip(data, keys, strict=True):
        rows = [at for at, key in enumerate(batch) if key in left]
        left.difference_update(batch[at] for at in rows)
        fresh += [_rows(inputs, target, rows)] if rows else []
    trained = rest if is_new else _without_keys(rest, keys[:-count], chosen)
    decides = _without_keys(late, keys[-count:], chosen)
    return Parts(trained, decides, fresh, True) if trained and decides and fresh else Parts(rest, late, [], False)


def _without_keys(data: Sequence[Batch], keys: Sequence[Sequence[int]], taken: set[int]) -> list[Batch]:
    """The batches without these rows; one that would keep a single row is left out, which BatchNorm does not take."""
    found: list[Batch] = []
    for (inputs, target), batch in zip(data, keys, strict=True):
        kept = [at for at, key in enumerate(batch) if key not in taken]
        found += [_rows(inputs, target, kept)] if len(kept) > 1 or len(kept) == len(batch) else []
    return found


def num_epochs(data: Sequence[Batch]) -> float:
    """How often the usual input is in the batches: 1 where none comes again."""
    keys = [key for inputs, _ in data for key in row_keys(inputs)]
    return len(keys) / max(1, len(set(keys)))


def _are_few(data: Sequence[Batch], keys: Sequence[Sequence[int]]) -> bool:
    """Whether the inputs are so few, or come again so soon, that each stands for itself and not for its like."""
    rows = [key for batch in keys for key in batch]
    distinct = len(set(rows))
    if distinct <= _FEW or all(_is_category(inputs) for inputs, _ in data):
        return True
    passes, found = 1, set[int]()
    for key in rows:  # an epoch ends where an input comes again
        if key in found:
            passes, found = passes + 1, set[int]()
        found.add(key)
    return passes > _SOON * len(rows) / distinct + 1


def _is_category(inputs: Any) -> bool:
    """One whole number for each sample."""
    tensors = list(batches.leaves(inputs).values())
    return len(tensors) == 1 and not tensors[0].is_floating_point() and tensors[0].numel() == len(tensors[0])


def row_keys(inputs: Any) -> list[int]:
    """A number for each sample that is the same for the same content."""
    size = batches.batch_size(inputs)
    tensors = [t.detach().cpu() for t in batches.leaves(inputs).values() if t.dim() > 0 and len(t) == size]
    rows = [t.contiguous().reshape(size, -1).view(torch.uint8).numpy() for t in tensors if t.numel()]
    return [
        int.from_bytes(hashlib.blake2b(b"".join(t[at].tobytes() for t in rows), digest_size=8).digest(), "big")
        for at in range(size)
    ]


def _rows(inputs: Any, target: Any, chosen: list[int]) -> Batch:
    size = batches.batch_size(inputs)
    return _of_rows(inputs, chosen, size), _of_rows(target, chosen, size)


def _of_rows(part: Any, chosen: list[int], size: int) -> Any:
    """These rows of whatever has a batch axis; a list of as many entries as there are rows is one, by row."""
    if isinstance(part, Tensor):
        return part[torch.tensor(chosen, device=part.device)] if part.dim() and len(part) == size else part
    if isinstance(part, Mapping):
        entries = cast("Mapping[Any, Any]", part).items()
        return {key: _of_rows(entry, chosen, size) for key, entry in entries}
    if not isinstance(part, (tuple, list)):
        return part
    values = cast("Sequence[Any]", part)
    found = [values[at] for at in chosen] if _is_by_row(values, size) else [_of_rows(v, chosen, size) for v in values]
    return found if isinstance(part, list) else tuple(found)


def _is_by_row(values: Sequence[Any], size: int) -> bool:
    return len(values) == size and not any(t.dim() and len(t) == size for t in batches.leaves(values).values())


def _has_rows(part: Any, size: int) -> bool:
    """Whether anything in it has a batch axis."""
    if isinstance(part, Tensor):
        return part.dim() > 0 and len(part) == size
    if isinstance(part, Mapping):
        return any(_has_rows(entry, size) for entry in cast("Mapping[Any, Any]", part).values())
    if not isinstance(part, (tuple, list)):
        return False
    values = cast("Sequence[Any]", part)
    return _is_by_row(values, size) or any(_has_rows(entry, size) for entry in values)


def _is_divisible(inputs: Any, target: Any) -> bool:
    """Whether rows can be taken out: a target without a batch axis is one of all its rows together."""
    return target is None or _has_rows(target, batches.batch_size(inputs))


def takes_fewer_rows(model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor]) -> bool:
    """False if the model or the loss takes this batch and not a part of it, such as a graph whose edges it holds.

    Args:
        model: Runs in evaluation mode; left as it is.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
    """
    count = 4 * batches.batch_size(batch[0]) // 5
    if not count or not _is_divisible(*batch):
        return True
    try:
        score(model, [batch], loss_fn)
    except (*FOREIGN, DataError):
        return True  # which the examination says
    try:
        score(model, [_rows(*batch, list(range(count)))], loss_fn)
    except (*FOREIGN, DataError):
        return False
    return True


def usual_rows(data: Sequence[Batch]) -> list[Batch]:
    """The batches without rows that are far out of the data, or not finite: these are excluded from the evaluation."""
    return _without(data, outlying_rows(data))


def finite_rows(data: Sequence[Batch]) -> list[Batch]:
    """The batches without samples that hold NaN or infinity, which cannot be scored."""
    odd: list[Tensor] = []
    for inputs, target in data:
        size = batches.batch_size(inputs)
        is_finite = torch.ones(size, dtype=torch.bool)
        is_whole = batches.are_finite(inputs) and batches.are_finite(target)
        for tensor in () if is_whole else (*batches.leaves(inputs).values(), *batches.leaves(target).values()):
            if tensor.is_floating_point() and tensor.dim() > 0 and len(tensor) == size:
                is_finite &= torch.isfinite(tensor).reshape(size, -1).all(dim=1).cpu()
        odd.append(~is_finite)
    return _without(data, odd)


def _without(data: Sequence[Batch], odd: Sequence[Tensor]) -> list[Batch]:
    """The batches without these rows; as they are if none would be left, or their target is one of all rows."""
    found: list[Batch] = []
    for (inputs, target), rows in zip(data, odd, strict=True):
        kept = (~rows).nonzero().flatten().tolist()
        if kept:
            is_whole = len(kept) == len(rows) or not _is_divisible(inputs, target)
            found.append((inputs, target) if is_whole else _rows(inputs, target, kept))
    return found or list(data)


def merged(
    model: nn.Module, data: Sequence[Batch], loss_fn: Callable[[Any, Any], Tensor], most: int = 2048
) -> list[Batch]:  # fmt: skip
    """The batches in fewer, larger ones, so that to score by them is quick; as they are where that changes scores.

    Args:
        model: It is scored on two of them, apart and together.
        data: Pairs of inputs and target.
        loss_fn: callable(output, target) -> scalar.
        most: Rows of a larger one.
    """
    if len(data) < 2 or not all(isinstance(part, Tensor) and part.dim() for batch in data for part in batch):
        return list(data)
    rows, numel = len(data[0][0]), data[0][0].numel()
    kinds = {(x.shape[1:], x.dtype, y.shape[1:], y.dtype, len(x) == len(y)) for x, y in data}
    size = min(most // max(1, rows), _AT_ONCE // max(1, numel))
    if len(kinds) > 1 or not next(iter(kinds))[-1] or size < 2:
        return list(data)
    try:
        apart = [score(model, [batch], loss_fn) for batch in data[:2]]
        together = score(model, _joined(data, 2)[:1], loss_fn)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return list(data)
    samples = [value for one in apart for value in one.samples]
    counts = [len(inputs) for inputs, _ in data[:2]]
    is_same = len(samples) == sum(counts) == len(together.samples)
    is_same = is_same and all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(samples, together.samples, strict=True))
    loss = sum(one.loss * count for one, count in zip(apart, counts, strict=True)) / sum(counts)
    if not is_same or not math.isclose(loss, together.loss, rel_tol=1e-3, abs_tol=1e-6):
        return list(data)  # a sum over the rows, say
    return _joined(data, size)


def _joined(data: Sequence[Batch], size: int) -> list[Batch]:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [(torch.cat([x for x, _ in part]), torch.cat([y for _, y in part])) for part in parts]
