"""Layers under norms, in files that Flax and Keras wrote, into modules of PyTorch with the same norm and with none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from frostline.core.errors import PortError
from frostline.porting.plan.norm_wrappers import unwrapped
from frostline.porting.units.unit import source_units
from frostline.recipes.port import port
from helpers_porting import numbers, source_of

FILES = Path(__file__).parents[1] / "files" / "weight_norms"


def plain(layer, **_):
    return layer


class Weighted(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.see, self.grow = norm(nn.Conv2d(2, 4, 3)), norm(nn.ConvTranspose2d(4, 4, 2, 2), dim=1)
        self.say = norm(nn.Linear(4, 4))

    def forward(self, x):
        return self.say(self.grow(self.see(x).relu()).relu().mean((2, 3)))


class Spectral(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.see, self.say = norm(nn.Conv2d(2, 4, 3)), norm(nn.Linear(4, 3))

    def forward(self, x):
        return self.say(self.see(x).relu().mean((2, 3)))


def golden(name):
    arrays = np.load(FILES / f"{name}.npz")
    return torch.from_numpy(arrays["inputs"]).movedim(-1, 1), torch.from_numpy(arrays["outputs"])


@pytest.mark.parametrize("norm", [plain, parametrizations.weight_norm])
def test_a_weight_norm_of_flax(norm):
    x, wanted = golden("flax_weight")
    module = Weighted(norm).eval()
    certificate = port(FILES / "flax_weight.msgpack", module)
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert not certificate.dropped
    assert [(one.layer, one.status) for one in certificate.checks if one.setting == "axis of the weight norm"] == [
        ("grow", "unknown"), ("say", "unknown")]  # fmt: skip
    assert any(one.is_computed for one in certificate.mapping) == (norm is plain)


def test_a_norm_of_the_module_over_another_axis_is_computed_from_the_weight():
    x, wanted = golden("flax_weight")
    module = Weighted(lambda layer, dim=0: parametrizations.weight_norm(layer, dim=0)).eval()
    certificate = port(FILES / "flax_weight.msgpack", module, golden=(x, wanted))
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert {one.layer for one in certificate.mapping if one.is_computed} == {"grow"}


@pytest.mark.parametrize("norm", [plain, parametrizations.spectral_norm])
def test_a_spectral_norm_of_flax_takes_a_step_in_evaluation_too(norm):
    x, wanted = golden("flax_spectral")
    module = Spectral(norm).eval()
    certificate = port(FILES / "flax_spectral.msgpack", module)
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert {one.setting for one in certificate.checks if one.status == "unknown"} >= {"steps of the power iteration"}
    told = port(FILES / "flax_spectral.msgpack", module, golden=(x, wanted))
    assert "steps of the power iteration" not in {one.setting for one in told.checks}
    assert certificate.dropped["batch_stats/SpectralNorm_0/see/kernel/sigma"] == "state of a spectral norm"


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_a_spectral_norm_of_keras_stores_the_kernel_that_it_uses(ending):
    x, wanted = golden("keras_spectral")
    module = Spectral(plain).eval()
    certificate = port(FILES / f"keras_spectral{ending}", module)
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert list(certificate.dropped.values()).count("state of a spectral norm") == 4
    assert not any(one.is_computed for one in certificate.mapping)


def test_a_spectral_norm_of_keras_into_one_of_pytorch_is_refused_where_the_kernel_has_moved_on():
    with pytest.raises(PortError, match="largest singular value is not 1") as caught:
        port(FILES / "keras_spectral.keras", Spectral(parametrizations.spectral_norm))
    assert "apply the spectral norm afterwards" in caught.value.do


def test_two_kernels_of_one_layer_that_differ_are_refused():
    leaves = {"layer_kernel": numbers(2, 2), "vector_u": numbers(1, 2), "kernel": numbers(2, 2, seed=1)}
    with pytest.raises(PortError, match="has two kernels in the file, and they differ"):
        unwrapped(source_units(source_of("keras", {"say": leaves})), "file")


def test_a_norm_around_a_layer_that_the_file_does_not_hold_stays_a_unit():
    units = source_units(source_of("flax", {"WeightNorm_0": {"gone/kernel/scale": numbers(2)}}))
    assert unwrapped(units, "file") == (units, {})
