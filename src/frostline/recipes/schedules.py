"""Schedules that move the frost line while a model trains: which layers, when, and how they are treated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from frostline.caching import CachedDataset
from frostline.core.arguments import as_count, as_items, as_number, check_flag
from frostline.core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each lower layer by this factor slower: Howard and Ruder (2018), "Universal Language Model Fine-tuning for Text
# Classification", section 3.2.
_FACTOR = 2.6
# Of the first epoch after a thaw: Adam's second moments of new parameters settle within the first hundreds of steps.
_WARMUP = 0.5
_PATIENCE = 2
# A block has converged when its update changes by less than this share from one epoch to the next. On the runs of
# `benchmarks/thaw.py` updates of low blocks change by a third per epoch at first, and by a tenth when they are settled.
_RATE = 0.2


@dataclass(frozen=True)
class ThawSchedule:
    """Gradual unfreezing: layers begin to train one after another, from the top, while `fit` runs.

    Args:
        at: `{epoch: layer}`: from this epoch on (counted from 1), the layer and everything registered after it trains,
            as `frostline.thaw(model, down_to=layer)` has it; None as the layer is the whole model. Or a list of layers,
            the topmost first: one more every `every` epochs, from epoch `1 + every` on. Or `"plateau"`: one more
            whenever validation has not improved for `patience` epochs.
        layers: With `"plateau"`, the layers, the topmost first; None takes lines of the model, as
            `frostline.choose_depth` finds them, then all of it.
        every: With a list, epochs from one thaw to the next.
        patience: With `"plateau"`, epochs without a better validation before the next thaw.
        factor: The layers of each thaw train with the learning rate of those before, divided by this: lower layers are
            more general, and change less. 2.6 is that of ULMFiT.
        warmup: Epochs in which the rate of thawed layers rises to its value in equal steps; 0 leaves it out.
        keep_statistics: Keep running statistics of thawed BatchNorms as they are, and normalise with them. By default
            they train again.

    Raises:
        DataError: If the schedule makes no sense.

    Example:
        >>> ThawSchedule({3: "layer4", 5: "layer3"}).moves
        ((3, 'layer4'), (5, 'layer3'))
        >>> ThawSchedule(["layer4", "layer3"], every=2).moves
        ((3, 'layer4'), (5, 'layer3'))

    References:
        Howard and Ruder (2018), Universal Language Model Fine-tuning for Text Classification, sections 3.2 and 3.3.
    """

    at: Mapping[int, str | None] | Sequence[str | None] | str
    layers: Sequence[str | None] | None = None
    every: int = 1
    patience: int = _PATIENCE
    factor: float = _FACTOR
    warmup: float = _WARMUP
    keep_statistics: bool = False

    def __post_init__(self) -> None:
        call = "ThawSchedule"
        as_count(call, "every", self.every)
        as_count(call, "patience", self.patience)
        as_number(call, "factor", self.factor, above=0)
        as_number(call, "warmup", self.warmup, least=0)
        check_flag(call, "keep_statistics", self.keep_statistics)
        _check_moves(call, self.at, self.layers, "plateau", self.every)

    @property
    def is_by_rule(self) -> bool:
        """True if validation decides when the line moves."""
        return self.at == "plateau"

    @property
    def moves(self) -> tuple[tuple[int | None, str | None], ...]:
        """(first epoch, or None where a rule decides; layer) of each thaw, in order."""
        return _moves(self.at, self.layers, self.every)

    def __str__(self) -> str:
        """The same text for the same schedule, in every process."""
        extra = f", patience {self.patience}" if self.is_by_rule else ""
        kept = ", statistics kept" if self.keep_statistics else ""
        return f"thaw {_moves_text(self.at, self.moves)}{extra}, factor {self.factor:g}, warm-up {self.warmup:g}{kept}"


@dataclass(frozen=True)
class FreezeSchedule:
    """Progressive freezing: layers stop training one after another, from the bottom, while `fit` runs.

    What is frozen is cached from then on: the longer a run, the less of the network it computes.

    Args:
        at: `{epoch: layer}`: from this epoch on (counted from 1), everything through the layer is frozen, as
            `frostline.freeze(model, through=layer)` has it. Or `"converged"`: the lowest block that still trains is
            frozen when its weights have converged.
        layers: With `"converged"`, the layers, the lowest first; None takes lines of the model, as
            `frostline.choose_depth` finds them.
        rate: With `"converged"`: a block has converged when the size of its update in an epoch (the norm of the change
            of its weights, divided by the learning rate) differs from that of the epoch before by less than this share.
        patience: With `"converged"`: in so many epochs, one after another.

    Raises:
        DataError: If the schedule makes no sense.

    Example:
        >>> FreezeSchedule({4: "layer1"}).moves
        ((4, 'layer1'),)

    References:
        Liu, Agarwal and Venkataraman (2021), AutoFreeze: Automatically Freezing Model Blocks to Accelerate Fine-tuning,
        arXiv 2102.01386: the rate of change of accumulated gradients, which for plain SGD are the update divided by
        the learning rate. Wang et al. (2023), Egeria, EuroSys: only a front part is frozen, without gaps.
    """

    at: Mapping[int, str] | str = "converged"
    layers: Sequence[str] | None = None
    rate: float = _RATE
    patience: int = 1

    def __post_init__(self) -> None:
        call = "FreezeSchedule"
        as_number(call, "rate", self.rate, above=0)
        as_count(call, "patience", self.patience)
        _check_moves(call, self.at, self.layers, "converged", None)
        if None in (layer for _, layer in self.moves):
            raise DataError(
                what="A schedule that freezes the whole model leaves nothing to train.", where=f"{call}(at=...)",
                received=repr(self.at), do="name the last layer to freeze, below the output layer.",
            )  # fmt: skip

    @property
    def is_by_rule(self) -> bool:
        """True if the weights decide when the line moves."""
        return self.at == "converged"

    @property
    def moves(self) -> tuple[tuple[int | None, str | None], ...]:
        """(first epoch, or None where a rule decides; layer) of each freeze, in order."""
        return _moves(self.at, self.layers, 1)

    def __str__(self) -> str:
        """The same text for the same schedule, in every process."""
        extra = f", rate {self.rate:g}, patience {self.patience}" if self.is_by_rule else ""
        return f"freeze {_moves_text(self.at, self.moves)}{extra}"


def _check_movable(schedule: ThawSchedule | FreezeSchedule | None, train: Any, monitor: Any) -> None:
    """Raise if the line cannot move: the data are features of one line, or a treatment changes the layers first."""
    if schedule is not None and monitor == "heal":
        raise DataError(
            what="A model is healed before a schedule moves its frost line.", where="fit(monitor='heal')",
            received=str(schedule), do="call frostline.heal first, then frostline.fit without monitor='heal'.",
        )  # fmt: skip
    if schedule is not None and isinstance(train, CachedDataset):
        raise DataError(
            what="Cached features belong to one frost line, which cannot move while they are trained on.",
            where="fit(train=..., thaw=... or freeze=...)", received="a CachedDataset",
            do="pass the whole model and the dataset itself, with cache= the same FeatureCache: fit fills it at each "
            "line.",
        )  # fmt: skip


def _check_moves(call: str, at: Any, layers: Any, rule: str, every: int | None) -> None:
    """Raise unless `at` is a mapping of epochs, the rule of this schedule or, with `every`, a list of layers."""
    kinds = f"an {{epoch: layer}} mapping{', a list of layers' if every else ''} or {rule!r}"
    if layers is not None and at != rule:
        raise DataError(
            what=f"Layers are listed for {rule!r} only.", where=f"{call}(layers=...)", received=f"at={at!r}",
            do=f"leave out layers, or pass at={rule!r}.",
        )  # fmt: skip
    if isinstance(at, str):
        if at != rule:
            raise _wrong(call, at, f"pass {kinds}.")
        named = as_items(call, "layers", layers) if layers is not None else [None]
    elif isinstance(at, Mapping):
        given = cast("Mapping[Any, Any]", at)
        named = list(given.values())
        if not all(type(epoch) is int and epoch > 1 for epoch in given):
            raise DataError(
                what="The frost line moves before an epoch that is a whole number of 2 or more.",
                where=f"{call}(at=...)", received=repr(at),
                do="begin with epoch 2 or later, as a whole number; frostline.freeze and frostline.thaw set the first "
                "line.",
            )  # fmt: skip
    elif every is not None:
        named = as_items(call, "at", at)
    else:
        raise _wrong(call, at, f"pass {kinds}.")
    if not named or not all(layer is None or (isinstance(layer, str) and layer) for layer in named):
        raise _wrong(call, at if layers is None else layers, f"pass {kinds}, with names of layers.")


def _moves(at: Any, layers: Any, every: int) -> tuple[tuple[int | None, str | None], ...]:
    if isinstance(at, str):
        return tuple((None, layer) for layer in layers or ())
    if isinstance(at, Mapping):
        given = cast("Mapping[int, str | None]", at)
        return tuple((epoch, given[epoch]) for epoch in sorted(given))
    return tuple((1 + every * number, layer) for number, layer in enumerate(at, 1))


def _moves_text(at: Any, moves: Sequence[tuple[int | None, str | None]]) -> str:
    shown = [f"{layer or 'the whole model'}" + (f" from epoch {epoch}" if epoch else "") for epoch, layer in moves]
    return ", ".join([*([at] if isinstance(at, str) else []), *shown])


def _wrong(call: str, at: Any, do: str) -> DataError:
    return DataError(what="This is no schedule.", where=f"{call}(at=...)", received=repr(at), do=do)


def as_schedule(
    freeze: Any, thaw: Any, train: Any = None, monitor: Any = None
) -> tuple[str | None, ThawSchedule | FreezeSchedule | None]:
    """(the layer through which is frozen first, what moves the line) of what `fit` is given.

    Raises:
        DataError: If both would move the line, one of them is no schedule, or the line cannot move.
    """
    schedule: ThawSchedule | FreezeSchedule | None = freeze if isinstance(freeze, FreezeSchedule) else None
    if isinstance(freeze, Mapping) or freeze == "converged":
        schedule = FreezeSchedule(cast("Any", freeze))
    if schedule is not None and thaw is not None:
        raise DataError(
            what="The frost line moves up or down, not both.", where="fit(freeze=..., thaw=...)",
            received=f"freeze={freeze!r}, thaw={thaw!r}",
            do="pass a layer name as freeze= with thaw=, or a schedule as freeze= alone.",
        )  # fmt: skip
    if schedule is None and thaw is not None:
        schedule = thaw if isinstance(thaw, ThawSchedule) else ThawSchedule(thaw)
    _check_movable(schedule, train, monitor)
    through = None if isinstance(schedule, FreezeSchedule) else cast("str | None", freeze)
    return through, schedule


def thaw_schedule(
    text: str | None, *, every: int, patience: int, factor: float, warmup: float, keep_statistics: bool
) -> ThawSchedule | None:
    """The schedule of --thaw: `plateau`, `3:layer4,5:layer3`, or `layer4,layer3`; `*` is the whole model.

    Raises:
        DataError: If it is none of these.
    """
    if text is None:
        return None
    options: Any = {"patience": patience, "factor": factor, "warmup": warmup, "keep_statistics": keep_statistics}
    if text == "plateau":
        return ThawSchedule(text, **options)
    pairs = [part.strip().rpartition(":") for part in text.split(",")]
    layers = [None if layer == "*" else layer for _, _, layer in pairs]
    if not any(colon for _, colon, _ in pairs):
        return ThawSchedule(layers, every=every, **options)
    if not all(epoch.isdecimal() for epoch, _, _ in pairs) or len({epoch for epoch, _, _ in pairs}) < len(pairs):
        raise DataError(
            what="This is no schedule.", where="--thaw", received=text,
            do="write EPOCH:LAYER for each thaw, such as 3:layer4,5:layer3; or plateau; or layers from the top.",
        )  # fmt: skip
    return ThawSchedule({int(epoch): layer for (epoch, _, _), layer in zip(pairs, layers, strict=True)}, **options)
