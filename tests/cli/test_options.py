import torch

from frostline.cli.options import loaded
from helpers_commands import MODEL


def test_random_layers_follow_the_seed_and_validation_data_is_read_where_it_is_given(arrays):
    pixels = (None, None, None)
    one, data, val = loaded(MODEL, str(arrays), pixels=pixels, seed=3)
    again, _, own = loaded(MODEL, str(arrays), str(arrays), pixels=pixels, seed=3)
    other, _, _ = loaded(MODEL, str(arrays), pixels=pixels, seed=4)
    assert val is None
    assert len(own) == len(data)
    weights = [next(model.parameters()) for model in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
