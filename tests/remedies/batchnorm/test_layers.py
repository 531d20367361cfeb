import copy

import pytest
import torch
from torch import nn

from frostline.remedies.batchnorm.layers import LastAxisBatchNorm, Normalised


@pytest.mark.parametrize("training", [True, False])
def test_the_last_axis_is_normalised_as_a_convolution_would(training):
    ours, theirs = LastAxisBatchNorm(6).train(training), nn.BatchNorm1d(6).train(training)
    x = torch.randn(4, 5, 6) * 3 + 1
    torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours(torch.randn(3, 6)).shape == (3, 6)


def test_a_pair_answers_for_its_layer_and_survives_copies():
    pair = copy.deepcopy(Normalised(nn.Linear(4, 6), nn.BatchNorm1d(6)))
    assert pair.in_features == 4
    assert pair.weight is pair.layer.weight
    assert list(pair.state_dict())[:3] == ["layer.weight", "layer.bias", "norm.weight"]
    assert pair(torch.randn(3, 4)).shape == (3, 6)
    with pytest.raises(AttributeError):
        _ = pair.nothing_of_the_kind
