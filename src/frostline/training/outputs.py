"""What of a model's output a loss takes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from frostline.core.errors import FOREIGN, DataError
from frostline.core.inputs import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DEPTH = 8  # of containers in containers
_SHOWN = 6  # tensors of an output: a language model's holds two for each layer
_BROADCAST = "Using a target size"  # how torch's warning of losses begins that compare all answers with all targets


def output_of(result: Any) -> Tensor:
    """The tensor of a model's output that a loss by name takes: itself, `.logits`, or the only one of a container.

    Raises:
        DataError: If there is none, or several: they are listed.
    """
    if isinstance(result, Tensor):
        return result
    logits = getattr(result, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    found = tensors_of(result)
    if len(found) == 1:
        return next(iter(found.values()))
    picked = _likely(found) if found else "[0]"
    raise DataError(
        what="It is unclear which part of the model's output the loss takes.",
        where="the model's output",
        received=f"{type(result).__name__} with {len(found)} tensors ({_listed(found)})"
        if found
        else type(result).__name__,
        do="pass a loss that is callable(output, target): it gets the whole output, and picks from it; for example "
        f"loss=lambda output, target: torch.nn.functional.cross_entropy(output{picked}, target).",
    )


def tensors_of(result: Any) -> dict[str, Tensor]:
    """Every tensor of a model's output by the text that picks it, to be put behind the output's name.

    Example:
        >>> import torch
        >>> list(tensors_of({"a": torch.ones(2), "b": (torch.ones(2), None)}))
        ["['a']", "['b'][0]"]
    """
    found: dict[str, Tensor] = {}
    _collect(result, "", found, _DEPTH)
    return found


def loss_of(loss: Callable[[Any, Any], Any], output: Any, target: Any, *, is_first: bool = False) -> Any:
    """`loss(output, target)`; an error over an output that is no tensor lists what the output holds.

    Args:
        loss: callable(output, target) -> scalar.
        output: Of the model, whole.
        target: Of the dataset.
        is_first: Also refuse targets that would be compared with all outputs of the batch.

    Raises:
        DataError: If the loss raises an error over an output with parts, or over the dtype of the targets, or compares
            all with all.
    """
    try:
        if not is_first:
            return loss(output, target)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=_BROADCAST, category=UserWarning)
            return loss(output, target)
    except UserWarning as warning:
        if not str(warning).startswith(_BROADCAST):
            raise
        raise DataError(
            what="The loss would compare every output with every target of the batch.", where="fit(loss=...)",
            received=f"output {describe(output)}, target {describe(target)}",
            do="give both the same shape: loss=lambda output, target: my_loss(output.reshape(target.shape), target).",
        ) from warning  # fmt: skip
    except FOREIGN as error:
        found = tensors_of(output) if not isinstance(output, Tensor) else {}
        if not found:
            if is_first and (other := _taken_dtype(loss, output, target)) is not None:
                raise _wrong_dtype(target, other, error) from error
            raise
        raise DataError(
            what="The loss cannot take the model's output, which has parts.", where="fit(loss=...)",
            received=f"{type(error).__name__}: {error}; the output is a {type(output).__name__} with {_listed(found)}",
            do=f"pick the part: loss=lambda output, target: my_loss(output{_likely(found)}, target).",
        ) from error  # fmt: skip


def _taken_dtype(loss: Callable[[Any, Any], Any], output: Any, target: Any) -> torch.dtype | None:
    """The dtype in which the loss takes the same targets; None if there is none."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor):
        return None
    for kind in (torch.int64, output.dtype):
        with suppress(*FOREIGN):
            loss(output, target.to(kind))
            return kind
    return None


def _wrong_dtype(target: Tensor, taken: torch.dtype, error: Exception) -> DataError:
    return DataError(
        what="The loss takes these targets in another dtype.", where="fit(loss=...)",
        received=f"{describe(target)}; {(str(error).splitlines() or [''])[0]}",
        do=f"convert them in the dataset: torch.as_tensor(target).to({taken}).",
    )  # fmt: skip


def _listed(found: Mapping[str, Tensor]) -> str:
    shown = [f"{name}: {describe(tensor)}" for name, tensor in found.items()]
    more = [f"{len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    return ", ".join([*shown[:_SHOWN], *more])


def _likely(found: Mapping[str, Tensor]) -> str:
    named = [name for name in found if "logits" in name]
    return named[0] if named else next(iter(found))


def _collect(value: Any, place: str, found: dict[str, Tensor], depth: int) -> None:
    if isinstance(value, Tensor):
        found[place] = value
        return
    entries: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        entries = ((f"[{key!r}]", entry) for key, entry in cast("Mapping[Any, Any]", value).items())
    elif hasattr(value, "_fields"):
        entries = ((f".{name}", getattr(value, name)) for name in value._fields)
    elif isinstance(value, (tuple, list)):
        entries = ((f"[{at}]", entry) for at, entry in enumerate(cast("list[Any]", value)))
    else:
        entries = ((f".{name}", getattr(value, name)) for name in fields_of(value))
    if depth:
        for key, entry in entries:
            _collect(entry, f"{place}{key}", found, depth - 1)


def fields_of(value: Any) -> list[str]:
    """Names of what an object with attributes holds, such as a dataclass; none for plain values and modules."""
    if isinstance(value, (type, nn.Module)):
        return []
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return list(getattr(value, "__dict__", {}))
