"""Checks arguments where a public call begins, so that a wrong one is named before anything has happened.

Every check takes the call and the parameter as a reader writes them, and gives the argument back in the type that the
code below relies on.
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.optim import Optimizer

from frostline.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


def _is_lazy(tensor: Tensor) -> bool:
    return isinstance(tensor, (UninitializedParameter, UninitializedBuffer))


_SHOWN = 80  # characters of an argument that an error shows
_NEEDS: dict[str, tuple[str, Callable[[Tensor], bool], str]] = {
    "shapes": (
        "The model has layers without a shape: they get it from the first batch.",
        _is_lazy,
        "run the model on a batch once: model(inputs).",
    ),
    "values": (
        "The model has no values: its weights are on the meta device.",
        lambda tensor: tensor.is_meta,
        "give it memory with model.to_empty(device='cpu'), then load its weights.",
    ),
    "training": (
        "The model was made in inference mode, where weights can never be trained or put back.",
        lambda tensor: not _is_lazy(tensor) and tensor.is_inference(),
        "make it, or load it, outside of torch.inference_mode().",
    ),
}


def check_model(call: str, model: Any, *, needs: Iterable[str] = tuple(_NEEDS)) -> nn.Module:
    """The model.

    Args:
        call: The public call.
        model: What was passed.
        needs: What its weights must have: `shapes`, `values`, `training` (they can be written).

    Raises:
        DataError: If it is no module, or its weights have no shape yet, no values, or cannot be written.
    """
    if not isinstance(model, nn.Module):
        is_class = isinstance(model, type) and issubclass(model, nn.Module)
        raise _wrong(
            "This is not a model.", call, "model", model,
            f"make one first: {model.__name__}(...)." if is_class else "pass a torch.nn.Module.",
        )  # fmt: skip
    for what, is_so, do in (_NEEDS[need] for need in needs):
        found = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if is_so(tensor)]
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise DataError(what=what, where=f"{call}(model)", received=f"{', '.join(found[:3])}{more}", do=do)
    return model


def as_count(call: str, name: str, value: Any, *, least: int = 1) -> int:
    """A whole number of `least` or more; whole numbers of numpy and torch are taken, floats and bools are not.

    Raises:
        DataError: If it is none.

    Example:
        >>> as_count("fit", "epochs", 3)
        3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except (TypeError, RuntimeError, ValueError):  # a tensor of several values, a float
        number = None
    if number is None or number < least:
        raise _wrong(f"{name} is not a whole number of {least} or more.", call, name, value,
                     f"pass {name} of {least} or more, such as {name}={max(least, 1)}.")  # fmt: skip
    return number


def as_seed(call: str, name: str, value: Any) -> int:
    """A whole number that torch's generators take.

    Raises:
        DataError: If it is none, or has more than 64 bits.
    """
    number = as_count(call, name, value, least=-(2**63))
    if number >= 2**64:
        raise _wrong(
            f"{name} has more than 64 bits.", call, name, value, f"pass a smaller whole number, such as {name}=0."
        )
    return number


def as_number(
    call: str, name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf,
    below: float = math.inf,
) -> float:  # fmt: skip
    """A finite number within its limits; 0-d values of numpy and torch are taken, bools are not.

    Args:
        call: The public call.
        name: The parameter.
        value: What was passed.
        above: It must be greater.
        least: It may be this, or greater.
        most: It may be this, or less.
        below: It must be less.

    Raises:
        DataError: If it is none.

    Example:
        >>> as_number("fit", "lr", 0.1, above=0)
        0.1
    """
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, RuntimeError, ValueError, OverflowError):
        number = math.nan
    if not (above < number < below and least <= number <= most):  # NaN is within nothing, infinity below nothing
        limits = [("above", above), ("of at least", least), ("of at most", most), ("below", below)]
        told = " and ".join(f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit))
        raise _wrong(f"{name} is not a finite number{f' {told}' if told else ''}.", call, name, value,
                     f"pass a number{f' {told}' if told else ''}.")  # fmt: skip
    return number


def as_path(call: str, name: str, value: Any) -> Path:
    """A path; `~` is the home folder.

    Raises:
        DataError: If it is no path, is empty, or no file can have that name.
    """
    text = value if isinstance(value, str) else os.fspath(value) if isinstance(value, os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise _wrong(f"{name} is not a path.", call, name, value, f"pass a text or a pathlib.Path as {name}.")
    try:
        path = Path(text).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # what is done there will say more
            path.stat()
    except (OSError, RuntimeError) as error:  # too long, a loop of links, a home that nobody has
        raise _wrong(f"{name} is not a path that this machine can have.", call, name, value,
                     f"pass another path: {error}.") from error  # fmt: skip
    return path


def as_device(call: str, name: str, value: Any) -> torch.device:
    """A device that is there.

    Raises:
        DataError: If there is none of that name.
    """
    try:
        device = torch.device(value)
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0][:_SHOWN]
        raise _wrong(f"{name} is not a device of this machine.", call, name, value,
                     f"pass 'cpu', or a device that torch has here ({first}).") from error  # fmt: skip
    return device


def as_name(call: str, name: str, value: Any) -> str:
    """A text that is not empty.

    Raises:
        DataError: If it is none.
    """
    if not isinstance(value, str) or not value:
        raise _wrong(f"{name} is not a name.", call, name, value, f"pass a text, such as {name}='layer3'.")
    return value


def as_names(call: str, name: str, value: Any) -> list[str]:
    """Several texts; a single one stands for itself.

    Raises:
        DataError: If they are none.
    """
    given = [value] if isinstance(value, str) else as_items(call, name, value)
    if not all(isinstance(entry, str) for entry in given):
        raise _wrong(f"{name} does not hold names.", call, name, value, f"pass texts, such as {name}=['layer3'].")
    return given


CHANNELS_LAST, FOLD, BF16, COMPILE = "channels_last", "fold", "bf16", "compile"
_WAYS = (CHANNELS_LAST, FOLD, BF16, COMPILE)


def as_frozen_pass(call: str, value: Any) -> tuple[str, ...]:
    """The ways of a faster frozen pass; none for None.

    Raises:
        DataError: If there is no such way.
    """
    given = as_names(call, "frozen_pass", value) if value is not None else []
    unknown = next((name for name in given if name not in _WAYS), None)
    if unknown is not None:
        raise DataError(
            what=f"There is no way {unknown!r} to run the frozen part.", where=f"{call}(frozen_pass=...)",
            received=repr(value),
            do=f"pass some of {', '.join(map(repr, _WAYS))}, such as frozen_pass=['bf16', 'fold'].",
        )  # fmt: skip
    return tuple(name for name in _WAYS if name in given)


def as_items(call: str, name: str, value: Any) -> list[Any]:
    """What an iterable holds, as `check_items` takes it.

    Raises:
        DataError: If it cannot be iterated.
    """
    return list(check_items(call, name, value))


def check_items(call: str, name: str, value: Any) -> Iterable[Any]:
    """An iterable that is neither a text, bytes, a class nor a single tensor.

    Raises:
        DataError: If it is one of these, or cannot be iterated.
    """
    if isinstance(value, (str, bytes, type)) or not isinstance(value, Iterable) or hasattr(value, "untyped_storage"):
        raise _wrong(
            f"{name} is not a list.", call, name, value, f"pass a list, or another finite iterable, as {name}."
        )
    return value


def check_flag(call: str, name: str, value: Any) -> bool:
    """True or False.

    Raises:
        DataError: If it is neither.
    """
    if not isinstance(value, bool):
        raise _wrong(f"{name} is neither True nor False.", call, name, value, f"pass {name}=True or {name}=False.")
    return value


def check_callable(call: str, name: str, value: Any, *, takes: str) -> Any:
    """A function, or another callable that is not a class of modules.

    Args:
        call: The public call.
        name: The parameter.
        value: What was passed.
        takes: Its arguments and its result, for the error: `(output, target) -> scalar`.

    Raises:
        DataError: If it cannot be called; a class of modules is called by making a module of it.
    """
    is_class = isinstance(value, type) and issubclass(value, nn.Module)
    if not callable(value) or is_class:
        raise _wrong(f"{name} cannot be called.", call, name, value,
                     f"make one first: {value.__name__}()." if is_class else f"pass callable{takes}.")  # fmt: skip
    return value


def check_optimizer(call: str, name: str, value: Any) -> Optimizer:
    """An optimizer.

    Raises:
        DataError: If it is none: a name, a class, a scheduler, parameters.
    """
    if not isinstance(value, Optimizer):
        raise _wrong(f"{name} is not an optimizer.", call, name, value,
                     "make one first: torch.optim.AdamW(model.parameters(), lr=1e-3).")  # fmt: skip
    return value


def as_numbers(option: str, text: str, example: str = "0.485,0.456,0.406") -> list[float]:
    """Numbers with commas between them.

    Raises:
        DataError: If one is no number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise DataError(
            what=f"{option} takes numbers with commas between them.", where=option, received=repr(text),
            do=f"write them like {option} {example}.",
        ) from error  # fmt: skip


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def as_bytes(option: str, text: str) -> int:
    """A size as people write it.

    Raises:
        DataError: If it is none.

    Example:
        >>> as_bytes("--max-bytes", "1.5 GB")
        1500000000
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?B|)", text.strip(), re.IGNORECASE)
    if found is None:
        raise DataError(
            what=f"{option} takes a number of bytes.", where=option, received=repr(text),
            do=f"write it like {option} 500MB or {option} 20GB.",
        )  # fmt: skip
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _wrong(what: str, call: str, name: str, value: Any, do: str) -> DataError:
    return DataError(what=what, where=f"{call}({name}=...)", received=_shown(value), do=do)


def _shown(value: Any) -> str:
    """The argument and its type, in one short line."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # the repr of somebody else's object
        text = "..."
    kind = "None" if value is None else f"{text[:_SHOWN]}{'...' if len(text) > _SHOWN else ''} ({type(value).__name__})"
    return kind if not isinstance(value, nn.Module) else f"a {type(value).__name__}"
