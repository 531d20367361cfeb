import torch

from frostline.porting.units.forms.keras import divide, renamed
from frostline.porting.units.unit import source_units
from helpers_porting import formed, numbers, source_of


def test_a_separable_convolution_is_two_layers():
    leaves = {"depthwise_kernel": numbers(3, 3, 2, 1), "pointwise_kernel": numbers(1, 1, 2, 4), "bias": numbers(4)}
    assert formed("keras", {"sep": leaves}) == {
        "sep/depthwise": {"depthwise_kernel": (3, 3, 2, 1)}, "sep/pointwise": {"kernel": (1, 1, 2, 4), "bias": (4,)},
    }  # fmt: skip


def test_the_bias_of_a_gru_is_two_and_covers_both_rows():
    leaves = {"kernel": numbers(2, 6), "recurrent_kernel": numbers(2, 6), "bias": numbers(2, 6)}
    ((unit,),) = (divide(one) for one in source_units(source_of("keras", {"gru": leaves})))
    assert torch.equal(torch.stack([unit.leaves["bias[0]"].load(), unit.leaves["bias[1]"].load()]), leaves["bias"])


def test_the_class_of_a_layer_tells_a_depthwise_kernel():
    source = source_of("keras", {"d": {"kernel": numbers(3, 3, 2, 1)}}, layers=[("d", "DepthwiseConv2D", {}, ())])
    (unit,) = source_units(source)
    assert set(renamed(unit).leaves) == {"depthwise_kernel"}
