"""Settings of heads that are trained side by side: what a caller may write, and what it stands for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from frostline.core.arguments import as_count, as_items, as_number, as_seed, check_callable
from frostline.core.errors import DataError, nearest

NAMES = ("lr", "weight_decay", "dropout", "optimizer", "width", "seed")
_USUAL = {"learning_rate": "'lr'", "hidden": "'width'", "units": "'width'", "wd": "'weight_decay'"}  # elsewhere
DEFAULT_LR = 1e-3  # as in `fit`
SOLVED = "probe"  # in place of an optimizer: the output layer is solved in closed form


@dataclass(frozen=True)
class HeadSetting:
    """One head of a sweep.

    Attributes:
        number: Its position in the caller's list, from 0.
        given: What the caller wrote.
        lr: Learning rate.
        weight_decay: None takes the optimizer's own.
        dropout: Probability before the output layer; None leaves the head's own.
        optimizer: A name, callable(parameters) -> Optimizer, or `probe`: the output layer is solved, not trained.
        width: Units of a hidden layer before the output layer; None leaves the head as it is.
        seed: Of new layers and of the head's noise.
    """

    number: int
    given: Mapping[str, Any]
    lr: float
    weight_decay: float | None
    dropout: float | None
    optimizer: str | Callable[..., Any]
    width: int | None
    seed: int

    def __str__(self) -> str:
        return settings_text(self.given)


def settings_text(given: Mapping[str, Any]) -> str:
    """Settings in one line, `lr=0.01 optimizer=sgd`."""
    return " ".join(f"{name}={_shown(value)}" for name, value in given.items()) or "defaults"


def read_settings(given: Any, *, optimizers: Sequence[str], seed: int) -> tuple[HeadSetting, ...]:
    """The heads of a sweep.

    Args:
        given: A list of mappings, one for each head; or one mapping of lists, whose combinations are meant.
        optimizers: The names that there are.
        seed: Of heads that name none.

    Raises:
        DataError: If there is none, a name is unknown, or a value makes no sense.
    """
    rows = _grid(cast("Mapping[Any, Any]", given)) if isinstance(given, Mapping) else _rows(given)
    if not rows:
        raise DataError(
            what="A sweep needs at least one setting.", where="sweep(settings=...)",
            received=f"an empty {type(given).__name__}" if not given else "a list without values",
            do='pass a list of mappings, such as [{"lr": 1e-3}, {"lr": 1e-2}], or one mapping of lists.',
        )  # fmt: skip
    return tuple(_setting(number, row, optimizers, seed) for number, row in enumerate(rows))


def _grid(given: Mapping[Any, Any]) -> list[dict[Any, Any]]:
    """Every combination of the values, the last name varying fastest; a single value stands for itself."""
    lists = [list(value) if isinstance(value, (list, tuple, set, range)) else [value] for value in given.values()]
    return [dict(zip(given, row, strict=True)) for row in itertools.product(*lists)] if given else []


def _rows(given: Any) -> list[dict[Any, Any]]:
    rows = as_items("sweep", "settings", given)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                what="A setting is a mapping of names to values.", where=f"sweep(settings[{number}])",
                received=f"{row!r:.80} ({type(row).__name__})", do='pass one such as {"lr": 1e-3, "optimizer": "sgd"}.',
            )  # fmt: skip
    return [dict(row) for row in rows]


def _setting(number: int, given: Mapping[Any, Any], optimizers: Sequence[str], seed: int) -> HeadSetting:
    for name in given:
        if name not in NAMES:
            raise DataError(
                what=f"There is no setting named {name!r}.", where=f"sweep(settings[{number}])",
                received=", ".join(map(repr, given)),
                do=f"use {_USUAL.get(name) or nearest(str(name), NAMES)}; there are "
                f"{', '.join(NAMES)}.",
            )  # fmt: skip

    def optional(name: str, read: Callable[[str], Any]) -> Any:
        return None if given.get(name) is None else read(f"settings[{number}]: {name}")

    lr = optional("lr", lambda at: as_number("sweep", at, given["lr"], above=0))
    return HeadSetting(
        number, given, DEFAULT_LR if lr is None else lr,
        optional("weight_decay", lambda at: as_number("sweep", at, given["weight_decay"], least=0)),
        optional("dropout", lambda at: as_number("sweep", at, given["dropout"], least=0, below=1)),
        _optimizer(number, given.get("optimizer"), given, optimizers),
        optional("width", lambda at: as_count("sweep", at, given["width"], least=0) or None),
        seed if given.get("seed") is None else as_seed("sweep", f"settings[{number}]: seed", given["seed"]),
    )  # fmt: skip


def _optimizer(number: int, value: Any, given: Mapping[Any, Any], known: Iterable[str]) -> Any:
    if value is None:
        return "adamw"
    where = f"settings[{number}]: optimizer"
    if value == SOLVED:
        unused = [name for name in ("lr", "dropout", "width") if given.get(name) is not None]
        if unused:
            raise DataError(
                what="A solved head takes a weight decay and nothing else.", where=f"sweep({where}=...)",
                received=", ".join(f"{name}={given[name]!r}" for name in unused),
                do=f"leave out {', '.join(unused)}, or give an optimizer that takes steps.",
            )  # fmt: skip
        return value
    if not isinstance(value, str):
        check_callable("sweep", where, value, takes="(parameters) -> Optimizer, or a name")
        unused = [name for name in ("lr", "weight_decay") if given.get(name) is not None]
        if unused:
            raise DataError(
                what="An optimizer that is given as a callable has its own learning rate and weight decay.",
                where=f"sweep({where}=...)", received=", ".join(f"{name}={given[name]!r}" for name in unused),
                do="set them inside of the callable, or give the optimizer by name.",
            )  # fmt: skip
        return value
    if value not in known:
        raise DataError(
            what=f"There is no optimizer named {value!r}.", where=f"sweep({where}=...)", received=repr(value),
            do=f"use {nearest(value, [*known, SOLVED])}; there are {', '.join(known)}, {SOLVED}, and callables"
            "(parameters) -> Optimizer.",
        )  # fmt: skip
    return value


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return str(getattr(value, "__qualname__", value))
