from torch import nn

from helpers_porting import formed, numbers


def test_layers_of_a_recurrent_module_are_units():
    state = {"rnn": {"weight_ih_l0": numbers(4, 3), "weight_ih_l0_reverse": numbers(4, 3)}}
    assert formed("torch", state) == {"rnn/l0": {"weight_ih": (4, 3)}, "rnn/l0_reverse": {"weight_ih": (4, 3)}}


def test_a_packed_projection_is_a_linear_layer():
    packed = {"look": {"in_proj_weight": numbers(6, 2), "in_proj_bias": numbers(6)}}
    assert formed("torch", packed, nn.MultiheadAttention(2, 1)) == {"look/in_proj": {"weight": (6, 2), "bias": (6,)}}


def test_tensors_of_a_new_norm_have_the_names_of_the_old_one():
    new = "parametrizations.weight."
    state = {"a": {"bias": numbers(2), f"{new}original0": numbers(2, 1), f"{new}original1": numbers(2, 2)},
             "b": {f"{new}original": numbers(2, 2), f"{new}0._u": numbers(2), f"{new}0._v": numbers(2)},
             "c": {f"{new}0.base": numbers(2, 2)}}  # fmt: skip
    made = formed("torch", state)
    assert made["a"] == {"bias": (2,), "weight_g": (2, 1), "weight_v": (2, 2)}
    assert made["b"] == {"weight_orig": (2, 2), "weight_u": (2,), "weight_v": (2,)}
    assert set(made["c"]) == {f"{new}0.base"}


def test_a_recurrent_layer_may_have_a_weight_norm():
    state = {"rnn": {"weight_ih_l0": numbers(4, 3), "weight_hh_l0_g": numbers(4, 1), "weight_hh_l0_v": numbers(4, 1)}}
    assert set(formed("torch", state)["rnn/l0"]) == {"weight_ih", "weight_hh_g", "weight_hh_v"}
