"""Errors in four parts: what happened, where, what was received, what to do."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class FrostlineError(Exception):
    """The base of every error that Frostline raises on purpose.

    Attributes:
        what: What could not be done, one sentence.
        where: The layer, file, sample or argument it happened at.
        received: The value that was found there.
        do: The remedy, as something the reader can do now.
    """

    def __init__(self, *, what: str, where: str, received: str, do: str) -> None:
        self.what, self.where, self.received, self.do = what, where, received, do
        super().__init__(what)

    def __str__(self) -> str:
        return f"{self.what}\nWhere:    {self.where}\nReceived: {self.received}\nDo:       {self.do}"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are rebuilt from positional arguments; ours take names only (worker processes send them).
        return (_rebuild, (type(self), self.parts()))

    def parts(self) -> dict[str, str]:
        """The four parts by name, as `--json` prints them."""
        return {"what": self.what, "where": self.where, "received": self.received, "do": self.do}


class LayerNotFound(FrostlineError):  # noqa: N818 (the public name says what is missing)
    """A layer name, pattern, module or parameter that the model does not have."""


class SplitError(FrostlineError):
    """The model cannot be split exactly at its frost line."""


class NotCacheable(FrostlineError):  # noqa: N818 (the public name is the verdict)
    """The frozen part can be split off, but its output must not be stored."""


class DataError(FrostlineError):
    """A dataset, item, label or example that cannot be used."""


class CacheError(FrostlineError):
    """A cache folder, shard or manifest that cannot be read or written."""


class PortError(FrostlineError):
    """A file of weights that cannot be read, or whose tensors do not belong to the model."""


class AmbiguousPortError(PortError):
    """Several assignments of a file's tensors fit the model equally well.

    Attributes:
        alternatives: Each a mapping from a unit of the file to the layers of the model that fit it as well.
    """

    def __init__(
        self, *, what: str, where: str, received: str, do: str, alternatives: tuple[dict[str, str], ...] = ()
    ) -> None:
        super().__init__(what=what, where=where, received=received, do=do)
        self.alternatives = alternatives

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_ambiguous, (self.parts(), self.alternatives))


def nearest(name: str, names: Iterable[str], *, count: int = 3) -> str:
    """The names most like `name`, ready for an error's last line.

    Example:
        >>> nearest("layr3", ["layer3", "layer4", "fc"])
        "'layer3', 'layer4'"
    """
    known = [candidate for candidate in names if candidate]
    close = get_close_matches(name, known, n=count, cutoff=0.4) or known[:count]
    return ", ".join(repr(candidate) for candidate in close)


def _rebuild(kind: type[FrostlineError], parts: dict[str, str]) -> FrostlineError:
    return kind(**parts)


def _rebuild_ambiguous(parts: dict[str, str], alternatives: tuple[dict[str, str], ...]) -> AmbiguousPortError:
    return AmbiguousPortError(**parts, alternatives=alternatives)


# What models, losses and hooks of others raise where they cannot take what they are given.
FOREIGN = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
