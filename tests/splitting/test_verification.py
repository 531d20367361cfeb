import torch

from helpers_splitting import FORWARDS, Net, check, x


def test_features_are_never_written():
    model = Net(FORWARDS["in place on a frozen value"])
    split = check(model, x(4))
    features = split.extract(x())
    kept = [feature.clone() for feature in features]
    split.head(*features)
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))
