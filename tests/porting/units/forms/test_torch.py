from torch import nn

from helpers_porting import formed, numbers


def test_layers_of_a_recurrent_module_are_units():
    state = {"rnn": {"weight_ih_l0": numbers(4, 3), "weight_ih_l0_reverse": numbers(4, 3)}}
    assert formed("torch", state) == {"rnn/l0": {"weight_ih": (4, 3)}, "rnn/l0_reverse": {"weight_ih": (4, 3)}}


def test_a_packed_projection_is_a_linear_layer():
    packed = {"look": {"in_proj_weight": numbers(6, 2), "in_proj_bias": numbers(6)}}
    assert formed("torch", packed, nn.MultiheadAttention(2, 1)) == {"look/in_proj": {"weight": (6, 2), "bias": (6,)}}
