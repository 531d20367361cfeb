"""What a score takes and gives: features of one line, targets, a number. Legend: N samples, C means, P components."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from frostline.selection.targets import Targets

# Components on which probes and neighbours run: more cost time and help little with the few thousand samples they get.
MOST_COMPONENTS = 256


class Features:
    """Pooled features of one line.

    Args:
        rows: (N, D) pooled features.
        num_mean: The first so many of them are means over places, or all there is: C.
    """

    def __init__(self, rows: NDArray[Any], num_mean: int) -> None:
        self.rows_ND = np.asarray(rows, np.float64)
        self.means_NC = self.rows_ND[:, :num_mean]

    @property
    def varies(self) -> bool:
        """True if any feature differs between two samples."""
        spread = self.rows_ND.std(0)
        return bool((spread > 1e-12 * np.abs(self.rows_ND).max(0, initial=0)).any())

    @cached_property
    def components(self) -> NDArray[np.float64]:
        """(N, P): all features, each of standard deviation 1, turned to their principal axes.

        Rows have a mean square norm of 1. No label is used, so that all samples may take part.
        """
        spread = self.rows_ND.std(0)
        varies = spread > 1e-6 * spread.max(initial=0)
        scaled = (self.rows_ND[:, varies] - self.rows_ND[:, varies].mean(0)) / spread[varies]
        num_samples, width = scaled.shape
        most = min(MOST_COMPONENTS, num_samples - 1, width)
        is_wide = width > num_samples
        product = scaled @ scaled.T if is_wide else scaled.T @ scaled
        values, vectors = np.linalg.eigh(product)
        values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
        turned = vectors * np.sqrt(np.maximum(values, 0)) if is_wide else scaled @ vectors
        return turned / np.sqrt((turned**2).sum(1).mean())

    @cached_property
    def centred_svd(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(U (N, R), S (R,)) of the centred means, the part that vanishes left out."""
        return _svd(self.means_NC - self.means_NC.mean(0))

    @cached_property
    def svd(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(U (N, R), S (R,)) of the means as they are."""
        return _svd(self.means_NC)


def _svd(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left, values, _ = np.linalg.svd(rows, full_matrices=False)
    kept = values > max(rows.shape) * np.finfo(np.float64).eps * values.max(initial=0)
    return left[:, kept], values[kept]


@dataclass(frozen=True)
class Scored:
    """What a score says of one line.

    Attributes:
        value: The score; higher is better, but for `effective_rank`, which is a width.
        error: Its standard error, by bootstrapping held-out predictions; None for scores without any.
        predicted: Held-out predictions of all samples, as `Targets.score` takes them; None without any.
    """

    value: float
    error: float | None = None
    predicted: NDArray[Any] | None = None


class Score(Protocol):
    """One way to score features by targets."""

    def __call__(self, features: Features, targets: Targets) -> Scored | None:
        """The score; None where it is not defined for these targets."""
        ...


_RESAMPLES = 200


def resamples(num_samples: int) -> NDArray[np.int64]:
    """(200, N) rows drawn with replacement, the same in every call."""
    return np.random.default_rng(0).integers(0, num_samples, (_RESAMPLES, num_samples))


def held_out(predicted: NDArray[Any], targets: Targets) -> Scored:
    """The score of held-out predictions, and its standard error over bootstrap resamples of the samples.

    Where all of N predictions are right, resamples cannot differ: the error is then that of N + 1 of N + 2.
    """
    value, count = targets.score(predicted), len(predicted)
    error = float(np.std([targets.score(predicted, rows) for rows in resamples(count)], ddof=1))
    if value == 1.0 and targets.kind != "numbers":
        error = math.sqrt((count + 1) / count) / (count + 2)
    return Scored(value, error, predicted)
