"""What a model input is: a tensor, a tuple or a mapping; how it is batched, sliced, moved and named.

The batch axis is axis 0 of every tensor whose size there equals that of the first tensor; others are shared.
Legend: B batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from frostline.core.errors import DataError, FrostlineError

if TYPE_CHECKING:
    from torch import nn

LABEL_KEYS = ("label", "labels")
NO_TARGET = ()  # what an item without a target has in its place
_PADDED = "pad it to one tensor, and pass the lengths or a mask beside it."


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """`model(x)` for a tensor, `model(*x)` for a tuple, `model(**x)` for a mapping."""
    if isinstance(inputs, Mapping):
        names = cast("Mapping[Any, Any]", inputs)
        if not all(isinstance(name, str) for name in names):
            raise DataError(
                what="The model takes its inputs by name, and this batch has other keys.", where="the inputs",
                received=f"keys {', '.join(repr(name) for name in names)}", do="name the arguments of forward as keys.",
            )  # fmt: skip
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def leaves(inputs: Any) -> dict[str, Tensor]:
    """Every tensor in `inputs` by name: mapping keys and positions, joined with dots.

    Example:
        >>> list(leaves({"ids": torch.zeros(2, 3), "extra": (torch.ones(2),)}))
        ['ids', 'extra.0']
    """
    if isinstance(inputs, Tensor):
        return {"0": inputs}
    found: dict[str, Tensor] = {}
    _collect(inputs, "", found)
    return found


def map_tensors(inputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with `function` applied to every tensor; what is read by attributes keeps these."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    kind: Any = type(cast("object", inputs))
    if isinstance(inputs, Mapping):
        found = {key: map_tensors(value, function) for key, value in cast("Mapping[str, Any]", inputs).items()}
        return kind(**found) if hasattr(kind, "__dataclass_fields__") else found
    if isinstance(inputs, (tuple, list)):
        values = [map_tensors(value, function) for value in cast("Sequence[Any]", inputs)]
        made: Callable[[list[Any]], Any] = getattr(kind, "_make", list if isinstance(inputs, list) else tuple)
        return made(values)
    return inputs


def map_arrays(inputs: Any) -> Any:
    """The same structure with numpy arrays and numbers turned into tensors; texts stay as they are."""
    if isinstance(inputs, Mapping):
        return {key: map_arrays(value) for key, value in cast("Mapping[str, Any]", inputs).items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(map_arrays(value) for value in cast("Sequence[Any]", inputs))
    return inputs if inputs is None or isinstance(inputs, (str, bytes)) else torch.as_tensor(inputs)


def is_broken(inputs: Any) -> bool:
    """Whether any value is NaN or infinity; -infinity is what masks are made of."""
    floats = [tensor for tensor in leaves(inputs).values() if tensor.is_floating_point()]
    return any(bool((tensor.isnan() | tensor.isposinf()).any()) for tensor in floats)


def are_finite(inputs: Any) -> bool:
    """Whether all floats are; a sum is quicker than a look at each, and is finite only if all are."""
    floats = [tensor for tensor in leaves(inputs).values() if tensor.is_floating_point()]
    return all(math.isfinite(float(tensor.sum())) or bool(torch.isfinite(tensor).all()) for tensor in floats)


def batch_size(inputs: Any) -> int:
    """Samples in a batch: the size of axis 0 of the first tensor.

    Raises:
        DataError: If there is no tensor, or the first one has no axis.
    """
    for name, tensor in leaves(inputs).items():
        if tensor.is_nested:
            raise _unusable(name, tensor, _PADDED)
        if tensor.dim():
            return tensor.shape[0]
    raise DataError(
        what="The batch size of the inputs cannot be determined.",
        where="the inputs",
        received=describe(inputs),
        do="pass a tensor, a tuple or a mapping that holds at least one tensor with a batch axis.",
    )


def rows(inputs: Any, index: slice | Tensor) -> Any:
    """The samples at `index`; tensors without the batch axis are passed on as they are."""
    size = batch_size(inputs)
    for name, tensor in leaves(inputs).items():
        if tensor.layout is not torch.strided and tensor.dim() and tensor.shape[0] == size:
            raise _unusable(name, tensor, "pass dense tensors (x.to_dense()), which can be cut into samples.")
    return map_tensors(inputs, lambda x: x[index] if x.dim() and x.shape[0] == size else x)


def flat_rows(rows: Tensor) -> Tensor:
    """(B, P) the values of each row, of rows of any shape: single numbers and rows without values too.

    Example:
        >>> [tuple(flat_rows(torch.zeros(shape)).shape) for shape in ((2, 3, 4), (2,), (2, 0))]
        [(2, 12), (2, 1), (2, 0)]
    """
    return rows.flatten(1) if rows.dim() > 1 else rows[:, None]


def rows_where(is_odd: Tensor) -> list[int]:
    """Positions of the rows in which any value is True.

    Example:
        >>> rows_where(torch.tensor([[False, True], [False, False], [True, True]]))
        [0, 2]
    """
    return flat_rows(is_odd).any(1).nonzero().flatten().tolist()


def joined(inputs: Any, others: Any) -> Any:
    """The samples of two batches of the same structure as one batch; what is shared comes from the first.

    Raises:
        RuntimeError: If their shapes do not fit together.
    """
    size, behind = batch_size(inputs), leaves(others)
    names = iter(leaves(inputs))

    def join(tensor: Tensor) -> Tensor:
        other = behind[next(names)]
        return torch.cat([tensor, other.to(tensor.device)]) if tensor.dim() and tensor.shape[0] == size else tensor

    return map_tensors(inputs, join)


def move(inputs: Any, device: torch.device | str | None) -> Any:
    """The same inputs on `device`; None leaves them where they are."""
    if device is None:
        return inputs
    if torch.device(device).type != "meta":
        check_readable(inputs)
    is_waiting = torch.device(device).type == "cpu"  # else the values would be read before they have come
    return map_tensors(inputs, lambda x: x.to(device, non_blocking=not is_waiting))


def check_readable(inputs: Any) -> None:
    """Check that every tensor has values, and a row for each sample.

    Raises:
        DataError: If one is nested, or on the meta device.
    """
    for name, tensor in leaves(inputs).items():
        if tensor.is_meta or tensor.is_nested:
            raise _unusable(name, tensor, _PADDED if tensor.is_nested else "pass tensors that hold values.")


def required_labels(forward: Callable[..., Any]) -> frozenset[str]:
    """The label keys that `forward` cannot do without: inputs then, not only targets."""
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return frozenset()
    return frozenset(
        key for key in LABEL_KEYS if key in parameters and parameters[key].default is inspect.Parameter.empty
    )


def check_map_style(dataset: Any) -> None:
    """A dataset is anything with a length and items.

    Raises:
        DataError: If it is not, or has no items.
    """
    if isinstance(dataset, DataLoader):
        raise DataError(
            what="A DataLoader was given where a dataset is needed.", where=type(dataset).__name__,
            received="batches instead of samples",
            do="pass loader.dataset, and batch_size=: the order, and the batches, are made here.",
        )  # fmt: skip
    is_stream = issubclass(type(dataset), IterableDataset)
    if isinstance(dataset, type) or is_stream or not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            what="The dataset is not a map-style dataset.",
            where=type(dataset).__name__,
            received=f"{describe(dataset)}, without len() or without [i]",
            do="give it __len__ and __getitem__, or put its items into a list.",
        )
    try:
        count = len(dataset)
    except (TypeError, ValueError) as error:
        raise DataError(
            what="The dataset has no length.", where=f"{type(dataset).__name__}.__len__",
            received=f"{type(error).__name__}: {error}", do="return the number of samples from __len__.",
        ) from error  # fmt: skip
    if isinstance(dataset, Mapping) and 0 not in dataset:
        names = cast("Mapping[Any, Any]", dataset)
        raise DataError(
            what="The dataset is a mapping of other keys than positions.", where=type(dataset).__name__,
            received=f"keys {', '.join(repr(name) for name in [*names][:4])}",
            do=f"pass one of its parts, such as data[{next(iter(names), 'train')!r}].",
        )  # fmt: skip
    if count == 0:
        raise DataError(
            what="The dataset is empty.",
            where=type(dataset).__name__,
            received="len() is 0",
            do="check the path or the filter that made it.",
        )


def read(dataset: Any, index: int) -> Any:
    """`dataset[index]`; an error of the dataset becomes one that names the index.

    Raises:
        DataError: If the item cannot be read.
    """
    try:
        return dataset[index]
    except FrostlineError:
        raise
    except Exception as error:
        raise DataError(
            what="An item of the dataset cannot be read.",
            where=f"dataset[{index}]",
            received=f"{type(error).__name__}: {error}",
            do="repair or remove that item; everything before it is kept.",
        ) from error


def unpack(item: Any, index: int | str, keep: frozenset[str] = frozenset()) -> tuple[Any, Any]:
    """(inputs, target) of one dataset item, as copies: a dataset may fill the same tensor anew for every item.

    Args:
        item: A pair, or a mapping whose `label` or `labels` is the target.
        index: Position in the dataset, for the error.
        keep: Label keys that stay among the inputs too (`required_labels`).

    Raises:
        DataError: If the item is neither.
    """
    if isinstance(item, Mapping):
        mapping = cast("Mapping[str, Any]", item)
        for key in LABEL_KEYS:
            if key in mapping:
                kept = {k: _copied(v) for k, v in mapping.items() if k not in LABEL_KEYS or k in keep}
                return kept, _copied(mapping[key])
        received = f"a mapping with keys {sorted(map(str, mapping))}"
    elif isinstance(item, (tuple, list)) and len(cast("Sequence[Any]", item)) == 2:
        inputs, target = cast("Sequence[Any]", item)
        return _copied(inputs), _copied(target)
    else:
        received = describe(item)
    raise DataError(
        what="A dataset item must be (inputs, target), or a mapping with a 'label' or 'labels' key.",
        where=f"dataset[{index}]",
        received=received,
        do="return a pair from the dataset's __getitem__, for example `return image, class_index`.",
    )


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return np.array(value)
    if type(value) is dict:
        return {key: _copied(part) for key, part in cast("dict[Any, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        kind: Any = type(value)
        parts = [_copied(part) for part in cast("Sequence[Any]", value)]
        return kind(*parts) if hasattr(value, "_fields") else kind(parts)
    return value


def describe(value: Any) -> str:
    """A short text of a value's structure, shapes and dtypes.

    Example:
        >>> describe((torch.zeros(2, 3), 5))
        '(float32 (2, 3), int)'
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"nested {kind}" if value.is_nested else f"{kind} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        parts = (f"{key}: {describe(entry)}" for key, entry in cast("Mapping[str, Any]", value).items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(describe(entry) for entry in cast("Sequence[Any]", value)) + ")"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} {value.dtype} {tuple(value.shape)}"
    return type(value).__name__


def call_with_model(model: nn.Module, inputs: Any) -> Any:
    """`call`, with a wrong signature turned into an error that names it."""
    try:
        return call(model, inputs)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise DataError(
            what=f"{type(model).__name__} cannot be called with these inputs.",
            where=f"{type(model).__name__}.forward{inspect.signature(model.forward)}",
            received=f"{describe(inputs)}; {error}",
            do="pass a tensor for model(x), a tuple for model(*x), or a mapping for model(**x); one that forward takes "
            "whole, in a tuple: (inputs,).",
        ) from error


def _unusable(name: str, tensor: Tensor, do: str) -> DataError:
    kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
    return DataError(
        what=f"A {kind} tensor cannot be used here.", where=f"the input {name!r}", received=describe(tensor), do=do
    )


def _collect(value: Any, prefix: str, found: dict[str, Tensor]) -> None:
    if isinstance(value, Tensor):
        found[prefix] = value
        return
    entries: Any = ()
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value).items()
    elif isinstance(value, (tuple, list)):
        entries = enumerate(cast("Sequence[Any]", value))
    for key, entry in entries:
        _collect(entry, f"{prefix}.{key}" if prefix else str(key), found)
