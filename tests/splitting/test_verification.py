import pytest
import torch

import frostline as fl
from helpers_splitting import FORWARDS, Net, check, x


def test_features_are_never_written():
    model = Net(FORWARDS["in place on a frozen value"])
    split = check(model, x(4))
    features = split.extract(x())
    kept = [feature.clone() for feature in features]
    split.head(*features)
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))


def test_stored_features_are_proven_in_the_mode_that_is_asked_for():
    model = Net(FORWARDS["residual"])
    split = check(model, x(4))
    batch = x(7)
    features = split.extract(batch)
    both = split.verify(batch, features)
    assert (both.samples, both.is_exact) == (7, True)
    one = split.verify(batch, features, modes=("train",))
    assert both.compared == 3 * one.compared  # in eval with gradients and without
    with pytest.raises(fl.SplitError, match="does not equal the model") as error:
        split.verify(batch, tuple(feature.flip(0) for feature in features), modes=("eval",))
    assert "in eval mode" in error.value.where
