import warnings

import pytest
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from frostline.porting.units.weight_norms import SPECTRAL, WEIGHT, norms_of


def test_norms_of_both_kinds_have_the_same_names():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = weight_norm(nn.Linear(2, 3))
    for layer in (old, parametrizations.weight_norm(nn.Linear(2, 3))):
        (norm,) = norms_of(layer).values()
        assert (norm.kind, norm.shape) == (WEIGHT, (3, 2))
        assert {name: tuple(one.shape) for name, one in norm.tensors.items()} == {
            "weight_g": (3, 1),
            "weight_v": (3, 2),
        }
    for layer in (spectral_norm(nn.Linear(2, 3)), parametrizations.spectral_norm(nn.Linear(2, 3))):
        (norm,) = norms_of(layer).values()
        assert (norm.kind, norm.dim, list(norm.tensors)) == (SPECTRAL, 0, ["weight_orig", "weight_u", "weight_v"])


@pytest.mark.parametrize("layer", [nn.Linear(2, 2), parametrizations.orthogonal(nn.Linear(2, 2)),
                                   parametrizations.spectral_norm(nn.LayerNorm(2))])  # fmt: skip
def test_other_layers_have_none(layer):
    assert norms_of(layer) == {}


def test_two_parametrizations_of_one_tensor_are_unknown():
    assert norms_of(parametrizations.weight_norm(parametrizations.spectral_norm(nn.Linear(2, 2)))) == {}
