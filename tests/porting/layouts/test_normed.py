"""State dicts that PyTorch itself makes of layers under a norm, into layers with and without one."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from frostline.core.errors import PortError
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.readers.safetensors import read
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting import numbers, source_of

KINDS = {
    "conv": lambda: nn.Conv2d(3, 4, 3), "transposed": lambda: nn.ConvTranspose1d(4, 4, 3),
    "linear": lambda: nn.Linear(4, 4), "no bias": lambda: nn.Linear(3, 4, bias=False),
}  # fmt: skip


def old_weight_norm(layer, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer, **options)


NORMS = {"old weight": old_weight_norm, "weight": parametrizations.weight_norm, "old spectral": spectral_norm,
         "spectral": parametrizations.spectral_norm, "none": lambda layer: layer}  # fmt: skip


# A weight norm into a spectral norm is refused: see below.
PAIRS = [(before, after) for before in NORMS for after in NORMS
         if before != "none" and not ("weight" in before and "spectral" in after)]  # fmt: skip


def inputs_of(layer):
    shapes = {nn.Conv2d: (2, 3, 5, 5), nn.ConvTranspose1d: (2, 4, 5)}
    found = next((shape for kind, shape in shapes.items() if isinstance(layer, kind)), None)
    return numbers(*(found or (2, layer.in_features)))


def trained(layer):
    """The layer after a few passes in training, in which a spectral norm finds its vectors."""
    with torch.no_grad():
        for _ in range(30):
            layer.train()(inputs_of(layer))
    return layer.eval()


def port(source, target, tmp_path):
    from safetensors.torch import save_file

    save_file({name: value.contiguous().clone() for name, value in source.state_dict().items()}, tmp_path / "f")
    with WeightFile(tmp_path / "f") as file:
        plan = make_plan(read(file, None), "file", target)
        carry_out(plan, target)
    return plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after"), PAIRS)
@torch.no_grad()
def test_every_norm_of_a_file_into_every_norm_of_a_module(kind, before, after, tmp_path):
    torch.manual_seed(0)
    source, target = nn.Sequential(trained(NORMS[before](KINDS[kind]()))), NORMS[after](KINDS[kind]()).eval()
    plan = port(source, nn.Sequential(target), tmp_path)
    x = inputs_of(target)
    assert torch.allclose(target(x), source(x), atol=1e-5)
    if before.split()[-1] == after.split()[-1]:
        assert not any(move.combine for step in plan.steps for move in step.moves)  # to the bit
    elif after == "none":
        assert "computed, " in str(plan)


@torch.no_grad()
def test_a_weight_norm_of_the_whole_weight_and_of_another_axis(tmp_path):
    for dim in (None, 1):
        source, target = old_weight_norm(nn.Linear(3, 4), dim=dim), nn.Linear(3, 4)
        port(nn.Sequential(source), nn.Sequential(target), tmp_path)
        assert torch.allclose(target(numbers(2, 3)), source(numbers(2, 3)), atol=1e-6)


def test_a_plain_weight_under_a_spectral_norm_needs_a_largest_singular_value_of_1():
    kernel = numbers(3, 2)
    for norm in (spectral_norm, parametrizations.spectral_norm):
        layer = norm(nn.Linear(3, 2, bias=False)).eval()
        source = source_of("keras", {"u": {"kernel": kernel}})
        with pytest.raises(
            PortError, match="A layer with a spectral norm cannot represent a weight whose largest singular"
        ):
            carry_out(make_plan(source, "file", nn.Sequential(layer)), layer)
        one = kernel / torch.linalg.svdvals(kernel)[0]
        source = source_of("keras", {"u": {"kernel": one}})
        carry_out(make_plan(source, "file", nn.Sequential(layer)), layer)
        assert torch.allclose(layer(numbers(2, 3)), numbers(2, 3) @ one, atol=1e-6)


def test_shapes_that_are_no_norm_are_refused():
    for leaves in ({"weight_g": numbers(3, 1), "weight_v": numbers(4, 2)},
                   {"weight_orig": numbers(4, 2), "weight_u": numbers(3), "weight_v": numbers(2)}):  # fmt: skip
        with pytest.raises(PortError, match="no partner"):
            make_plan(source_of("torch", {"u": leaves}), "file", nn.Sequential(nn.Linear(2, 4, bias=False)))
    with pytest.raises(PortError, match="no partner"):  # nothing to compute a length from
        make_plan(
            source_of("torch", {"u": {"bias": numbers(4)}}), "file", nn.Sequential(old_weight_norm(nn.Linear(2, 4)))
        )
