import numpy as np
import pytest

from frostline.selection.scores import Features, effective_rank
from helpers_selection import class_targets


def test_it_counts_directions():
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.normal(size=(60, 3)) - 0)[0]
    basis -= basis.mean(0)
    equal = np.linalg.qr(basis)[0]
    assert effective_rank(Features(equal @ np.eye(3, 8), 8), class_targets()).value == pytest.approx(3, rel=1e-6)
    line = np.outer(np.arange(60.0), np.ones(5))
    assert effective_rank(Features(line, 5), class_targets()).value == pytest.approx(1, rel=1e-6)


def test_it_is_the_exponential_of_the_entropy():
    rows = np.random.default_rng(1).normal(size=(60, 4)) * [1, 2, 3, 4]
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    shares = values / values.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(Features(rows, 4), class_targets()).value == pytest.approx(expected)
