"""Where in a model the targets are lost: what a linear model reads of them before and behind each layer.

Layers with random weights keep most of what they get. Where the targets can be read of the inputs, but behind some
layer of nothing that comes after it, this layer throws them away before a single step: an average where a sum is meant,
a norm over the wrong axis, a mask the other way round.

Legend: N rows, D features, C columns of known answers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.diagnosis.probes.classes import linear_answers
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import SignalFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from frostline.diagnosis.experiments.batches import Batch

_MOST_ROWS, _FEWEST_ROWS = 1200, 240
_MOST_FEATURES = 384  # beyond, so many random sums of them: they keep what a linear model can read
_MOST_COLUMNS = 8192  # of which sums are made
_FEWEST_FEATURES = 16  # of a layer: fewer random ones hold little of anything
_MOST_CLASSES, _MOST_WORDS = 20, 64
_READ = 0.3  # share of what the constant-prediction baseline leaves, that a linear model reads of the inputs
_LOST, _NOTHING = 0.2, 0.1  # of that, and at all: below both it is lost
_SPREAD = 1e-6  # of the values at a place: below, they are the same for all rows


def facts_of_signal(model: nn.Module, start: dict[str, Tensor], data: Sequence[Batch]) -> SignalFacts | None:
    """None where the targets are not one class or number for each row, or a linear model reads nothing of them.

    Args:
        model: Runs in evaluation mode with its weights of before the training; left as it is.
        start: These weights, by name.
        data: Batches, of which the first rows are used.
    """
    chosen = _chosen(data)
    known_NC = _known(chosen)
    if known_NC is None:
        return None
    given = _joined([_readable_inputs(inputs) for inputs, _ in chosen])
    if given is None or (read := _read(given, known_NC)) < _READ:
        return None
    points = [("the inputs", read)]
    with _weights_of(model, start), evaluation(model):
        passed = _passed(model, [inputs for inputs, _ in chosen])
    points += [(place, _read(values, known_NC)) for place, values in passed if values.shape[1] >= _FEWEST_FEATURES]
    limit = max(_NOTHING, _LOST * read)
    last = max(at for at, (_, found) in enumerate(points) if found >= limit)
    if last + 1 == len(points) or points[last + 1][1] >= min(_NOTHING, _LOST * read) or points[last][1] < _READ:
        return SignalFacts(read)
    return SignalFacts(read, *points[last], *points[last + 1])


def _chosen(data: Sequence[Batch]) -> list[Batch]:
    found: list[Batch] = []
    count = 0
    for inputs, target in data:
        if count >= _MOST_ROWS or not isinstance(target, Tensor) or not target.dim():
            break
        found.append((inputs, target))
        count += len(target)
    return found


def _known(chosen: Sequence[Batch]) -> Tensor | None:
    """A column for each class, or the number; None of other targets, or of few rows."""
    targets = [target.detach().cpu() for _, target in chosen]
    if sum(map(len, targets)) < _FEWEST_ROWS or any(one.numel() != len(one) for one in targets):
        return None
    target_N = torch.cat([one.reshape(-1) for one in targets])
    if target_N.is_floating_point():
        is_known = bool(torch.isfinite(target_N).all()) and len(target_N.unique()) > 1
        return target_N[:, None].double() if is_known else None
    if int(target_N.min()) < 0 or not 1 < int(target_N.max()) + 1 <= _MOST_CLASSES:
        return None
    return torch.nn.functional.one_hot(target_N.long()).double()


@torch.no_grad()
def _read(values_ND: Tensor, known_NC: Tensor) -> float:
    """What a linear model of one half reads of the other, of what the constant-prediction baseline leaves; 0 to 1."""
    half = len(known_NC) // 2
    if not bool(torch.isfinite(values_ND).all()) or float(values_ND.std(0).max()) <= _SPREAD:
        return 0.0
    answers, right = linear_answers(values_ND[:half], known_NC[:half], values_ND[half:]), known_NC[half:]
    if known_NC.shape[1] > 1:
        share = float((answers.argmax(1) == right.argmax(1)).double().mean())
        least = float(right.mean(0).max())
        return max(0.0, (share - least) / max(1e-9, 1 - least))
    return max(0.0, float(1 - (answers - right).square().mean() / right.var(correction=0).clamp_min(1e-12)))


def _readable_inputs(inputs: Any) -> Tensor | None:
    """Values of each row side by side; words as one column for each word and place."""
    size = batches.batch_size(inputs)
    found: list[Tensor] = []
    for tensor in batches.leaves(inputs).values():
        if not tensor.dim() or len(tensor) != size:
            continue
        if tensor.is_floating_point():
            found.append(_features(tensor))
        elif int(tensor.min()) >= 0 and int(tensor.max()) < _MOST_WORDS:
            found.append(_features(torch.nn.functional.one_hot(tensor.long(), _MOST_WORDS).float()))
    return torch.cat(found, 1) if found else None


def _features(tensor: Tensor) -> Tensor:
    """The values of each row, or so many random sums of them."""
    flat_ND = tensor.detach().reshape(len(tensor), -1).cpu().double()
    if flat_ND.shape[1] <= _MOST_FEATURES:
        return flat_ND
    generator = torch.Generator().manual_seed(flat_ND.shape[1])
    if flat_ND.shape[1] > _MOST_COLUMNS:
        flat_ND = flat_ND[:, torch.randperm(flat_ND.shape[1], generator=generator)[:_MOST_COLUMNS]]
    signs = 1.0 - 2.0 * torch.randint(2, (flat_ND.shape[1],), generator=generator)
    at = torch.randint(_MOST_FEATURES, (flat_ND.shape[1],), generator=generator)
    return flat_ND.new_zeros(len(flat_ND), _MOST_FEATURES).index_add_(1, at, flat_ND * signs)


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    is_whole = len(known) == len(parts) and len({part.shape[1] for part in known}) == 1
    return torch.cat(known) if is_whole else None


def _passed(model: nn.Module, inputs: Sequence[Any]) -> list[tuple[str, Tensor]]:
    """(place, values_ND) of what layers get and give, in the order in which it comes into being; each of it once."""
    found: dict[str, list[Tensor]] = {}
    for given in inputs:
        for place, tensor in _heard(model, given):
            found.setdefault(place, []).append(_features(tensor))
    whole = [(place, _joined(parts)) for place, parts in found.items() if len(parts) == len(inputs)]
    return [(place, values) for place, values in whole if values is not None]


def _heard(model: nn.Module, inputs: Any) -> list[tuple[str, Tensor]]:
    size, seen, found = batches.batch_size(inputs), list(batches.leaves(inputs).values()), dict[str, Tensor]()

    def keep(place: str, value: Any) -> None:
        tensor = next((one for one in batches.leaves(value).values() if one.is_floating_point()), None)
        if tensor is None or tensor.dim() < 2 or any(tensor is one for one in seen):
            return
        seen.append(tensor)
        axis = 0 if len(tensor) == size else 1 if tensor.dim() > 2 and tensor.shape[1] == size else None
        if axis is not None:
            found[place] = tensor.transpose(0, axis)

    def before(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: keep(f"the input of {_named(name, module)}", (*args, *kwargs.values()))

    def after(name: str) -> Callable[..., None]:
        return lambda module, _, output: keep(f"the output of {_named(name, module)}", output)

    hooks = [
        hook for name, module in model.named_modules() for hook in
        (module.register_forward_pre_hook(before(name), with_kwargs=True), module.register_forward_hook(after(name)))
    ]  # fmt: skip
    try:
        with torch.no_grad():
            batches.call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found.items())


def _named(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})" if name else "the model"


@contextmanager
def _weights_of(model: nn.Module, start: dict[str, Tensor]) -> Generator[None]:
    """The model with other values of some of its parameters, which are put back."""
    own = {name: value for name, value in model.named_parameters() if name in start}
    kept = {name: value.detach().clone() for name, value in own.items()}
    try:
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(start[name])
        yield
    finally:
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(kept[name])
