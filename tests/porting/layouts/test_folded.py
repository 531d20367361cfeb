from torch import nn

from frostline.porting.layouts.folded import moves
from frostline.porting.units.unit import TargetUnit, source_units
from helpers_porting import numbers, source_of


def test_the_bias_goes_where_there_is_a_place_for_it():
    (unit,) = source_units(source_of("onnx", {"n": {"weight": numbers(2, 2, 1, 1), "bias": numbers(2)}}))
    conv, norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
    parts = {f"norm.{own}": tensor for own, tensor in (*norm.named_parameters(), *norm.named_buffers())}
    for bias in ("bias", "norm.bias"):
        tensors = {"weight": conv.weight} | ({"bias": conv.bias} if bias == "bias" else {}) | parts
        made = {move.target: move for move in moves(unit, TargetUnit("c", conv, tensors, "c", norm=norm))}
        assert made[bias].sources == ("bias",)
        assert made["norm.running_var"].constant == 1 - norm.eps
        assert made["norm.weight"].constant == 1
    assert moves(unit, TargetUnit("c", conv, {"weight": conv.weight}, "c", norm=norm)) is None
