"""Small real and synthetic data sets, split and batched from a seed. N rows, F features, T time steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from sklearn import datasets as sk

from .recipe import Recipe

# What an outlying row is multiplied by: two orders above the data, as a wrong unit or a sensor fault would.
OUTLIER_FACTOR = 300.0
TEST_SHARE = 0.3


@dataclass(frozen=True)
class Data:
    """Training and test rows of one seed; `num_outputs` is what the network's last layer needs."""

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    num_outputs: int


def _standard(x_NF: np.ndarray) -> np.ndarray:
    return (x_NF - x_NF.mean(0)) / np.maximum(x_NF.std(0), 1e-8)


def _blobs() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.make_blobs(1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    return _standard(x), y


def _raw_blobs() -> tuple[np.ndarray, np.ndarray]:
    return sk.make_blobs(1000, centers=3, n_features=2, cluster_std=2, random_state=2)


def _circles() -> tuple[np.ndarray, np.ndarray]:
    return sk.make_circles(1000, noise=0.1, random_state=1)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.load_digits(return_X_y=True)
    return x / 16.0, y


def _cancer() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.load_breast_cancer(return_X_y=True)
    return _standard(x), y


def _wine() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.load_wine(return_X_y=True)
    return _standard(x), y


def _friedman() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.make_friedman1(1000, noise=0.5, random_state=3)
    return _standard(x), _standard(y[:, None])


def _multilabel() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.make_multilabel_classification(1000, n_features=20, n_classes=5, n_labels=2, random_state=4)
    return _standard(x), y.astype(np.float64)


def _imbalanced() -> tuple[np.ndarray, np.ndarray]:
    x, y = sk.make_classification(1000, n_features=10, n_informative=6, weights=[0.9], class_sep=1.5, random_state=5)
    return _standard(x), y


def _waves() -> tuple[np.ndarray, np.ndarray]:
    """Three frequencies in noise, 60 steps long: what the sequence is about is spread over all of it."""
    rng = np.random.default_rng(6)
    y = rng.integers(0, 3, 1000)
    t = np.arange(60)
    period = np.array([6.0, 10.0, 20.0])[y][:, None]
    x = np.sin(2 * np.pi * (t / period + rng.random((1000, 1)))) + 0.3 * rng.standard_normal((1000, 60))
    return x[..., None], y


def _totals() -> tuple[np.ndarray, np.ndarray]:
    """Which of four channels has the largest sum over 60 steps: every step counts a little."""
    rng = np.random.default_rng(7)
    y = rng.integers(0, 4, 1000)
    x = rng.standard_normal((1000, 60, 4))
    x[np.arange(1000), :, y] += 0.5
    return x, y


def _tokens() -> tuple[np.ndarray, np.ndarray]:
    """Twelve of 500 words; the class is the topic, of three, that four of the words come from."""
    rng = np.random.default_rng(8)
    y = rng.integers(0, 3, 1000)
    x = rng.integers(60, 500, (1000, 12))
    x[:, :4] = rng.integers(0, 20, (1000, 4)) + 20 * y[:, None]
    return rng.permuted(x, axis=1), y


def _counts() -> tuple[np.ndarray, np.ndarray]:
    """The same words as counts: 488 of 500 columns are zero in every row."""
    words, y = _tokens()
    return (words[..., None] == np.arange(500)).sum(1).astype(np.float64), y


def _digit_rows() -> tuple[np.ndarray, np.ndarray]:
    x, y = _digits()
    return x.reshape(-1, 8, 8), y


def _digit_images() -> tuple[np.ndarray, np.ndarray]:
    x, y = _digits()
    return x.reshape(-1, 1, 8, 8), y


def _digit_pixels() -> tuple[np.ndarray, np.ndarray]:
    x, y = _digits()
    return x.reshape(-1, 64, 1), y


DATASETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "blobs": _blobs,
    "raw_blobs": _raw_blobs,
    "circles": _circles,
    "digits": _digits,
    "cancer": _cancer,
    "wine": _wine,
    "friedman": _friedman,
    "multilabel": _multilabel,
    "imbalanced": _imbalanced,
    "waves": _waves,
    "totals": _totals,
    "tokens": _tokens,
    "counts": _counts,
    "digit_rows": _digit_rows,
    "digit_images": _digit_images,
    "digit_pixels": _digit_pixels,
}
IS_BINARY_OR_CLASSES = frozenset(DATASETS) - {"friedman", "multilabel"}
HAS_WHOLE_INPUTS = frozenset({"tokens"})


@lru_cache(maxsize=32)
def _loaded(name: str) -> tuple[np.ndarray, np.ndarray]:
    return DATASETS[name]()


def load(recipe: Recipe) -> Data:
    """The recipe's data, with the recipe's faults in its training rows; scale faults are in the test rows too."""
    x, y = _loaded(recipe.dataset)
    rng = np.random.default_rng(1000 + recipe.seed)
    order = rng.permutation(len(x))
    num_test = int(TEST_SHARE * len(x))
    test, train = order[:num_test], order[num_test:]
    if recipe.dataset not in HAS_WHOLE_INPUTS:
        x = x * recipe.input_scale + recipe.input_shift
    if recipe.uneven != 1.0:
        x = x.copy()
        x[..., x.reshape(-1, x.shape[-1]).std(0).argmax()] *= recipe.uneven
    if "zero_columns" in recipe.traits:
        x = np.concatenate([x, np.zeros_like(x)], axis=-1)
    num_classes = int(y.max()) + 1 if recipe.dataset in IS_BINARY_OR_CLASSES else y.shape[1]
    train_x, train_y = _with_faults(x[train].copy(), y[train].copy(), recipe, rng, num_classes)
    target = torch.long if recipe.dataset in IS_BINARY_OR_CLASSES else torch.float32
    kind = torch.long if recipe.dataset in HAS_WHOLE_INPUTS else torch.float32
    return Data(
        torch.tensor(train_x, dtype=kind),
        torch.tensor(train_y, dtype=target),
        torch.tensor(x[test], dtype=kind),
        torch.tensor(y[test], dtype=target),
        num_classes,
    )


def _with_faults(
    x: np.ndarray, y: np.ndarray, recipe: Recipe, rng: np.random.Generator, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.permutation(len(x))
    if recipe.outliers:
        x[rows[: round(recipe.outliers * len(x))]] *= OUTLIER_FACTOR
    if recipe.target_outliers:
        y[rows[: round(recipe.target_outliers * len(x))]] *= OUTLIER_FACTOR
    for row in rows[: recipe.nan_rows]:
        x[row].reshape(-1)[0] = np.nan
    if recipe.label_noise:
        noisy = rng.random(len(y)) < recipe.label_noise
        y[noisy] = rng.integers(0, num_classes, int(noisy.sum()))
    return x, y


def batches(data: Data, recipe: Recipe) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`recipe.steps` shuffled batches, epoch after epoch; a short last batch of an epoch is left out."""
    generator = torch.Generator().manual_seed(2000 + recipe.seed)
    size = min(recipe.batch_size, len(data.train_x))
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    while len(found) < recipe.steps:
        order = torch.randperm(len(data.train_x), generator=generator)
        found += [(data.train_x[rows], data.train_y[rows]) for rows in order.split(size) if len(rows) == size]
    return found[: recipe.steps]
