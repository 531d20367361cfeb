import pytest
from torch import nn

from frostline.porting.plan.port_plan import make_plan
from frostline.porting.settings.pairs import of_pair
from helpers_interpreting import floats, network


def found(kind, config, weights, model, follower=None):
    source = network(("x", "InputLayer", {}, ()), ("f", kind, config, ("x",)),
                     **{f"f__{leaf}": value for leaf, value in weights.items()})  # fmt: skip
    steps = make_plan(source, "file", nn.ModuleDict({"m": model})).steps
    return {one.check.setting: one for step in steps for one in of_pair(step, None, None, follower)}


def statuses(*args, **kwargs):
    return {name: one.check.status for name, one in found(*args, **kwargs).items()}


NORM = {leaf: floats(4).abs() for leaf in ("gamma", "beta", "moving_mean", "moving_variance")}
CONV = {"kernel": floats(3, 3, 2, 4), "bias": floats(4)}
LSTM = {"kernel": floats(3, 16), "recurrent_kernel": floats(4, 16), "bias": floats(16)}


def test_epsilon_and_momentum_of_norms():
    config = {"epsilon": 1e-3, "momentum": 0.99}
    assert statuses("BatchNormalization", config, NORM, nn.BatchNorm2d(4)) == {
        "epsilon": "differs",
        "momentum": "differs",
    }
    assert statuses("BatchNormalization", config, NORM, nn.BatchNorm2d(4, 1e-3, 0.01)) == {
        "epsilon": "agrees", "momentum": "agrees"}  # fmt: skip
    assert statuses("BatchNormalization", {}, NORM, nn.BatchNorm2d(4, 1e-3, None)) == {
        "epsilon": "agrees", "momentum": "differs"}  # fmt: skip
    layer = {"gamma": floats(4), "beta": floats(4)}
    assert statuses("LayerNormalization", {"epsilon": 1e-5}, layer, nn.LayerNorm(4)) == {"epsilon": "agrees"}
    assert found("GroupNormalization", {}, layer, nn.GroupNorm(2, 4))["epsilon"].value == 1e-3


def test_strides_and_dilation_of_convolutions():
    assert statuses("Conv2D", {"strides": [2, 2]}, CONV, nn.Conv2d(2, 4, 3)) == {
        "stride": "differs", "dilation": "agrees", "padding": "agrees"}  # fmt: skip
    assert statuses("Conv2D", {"dilation_rate": 2}, CONV, nn.Conv2d(2, 4, 3, dilation=2))["dilation"] == "agrees"


@pytest.mark.parametrize(
    ("config", "model", "wanted"),
    [
        ({}, nn.LSTM(3, 4), {"activation": "agrees", "recurrent activation": "agrees"}),
        ({"recurrent_activation": "hard_sigmoid"}, nn.LSTM(3, 4),
         {"activation": "agrees", "recurrent activation": "differs"}),
        ({"activation": "relu", "go_backwards": True}, nn.LSTM(3, 4),
         {"activation": "differs", "recurrent activation": "agrees", "direction": "unknown"}),
    ],
)  # fmt: skip
def test_functions_of_recurrent_layers(config, model, wanted):
    assert statuses("LSTM", config, LSTM, model) == wanted


def test_a_plain_recurrent_layer_has_one_function():
    leaves = {"kernel": floats(3, 4), "recurrent_kernel": floats(4, 4), "bias": floats(4)}
    model = nn.RNN(3, 4, nonlinearity="relu")
    assert statuses("SimpleRNN", {"activation": "relu"}, leaves, model) == {"activation": "agrees"}
    assert statuses("SimpleRNN", {}, leaves, model) == {"activation": "differs"}


def test_both_directions_of_a_recurrent_layer():
    inner = {"class_name": "LSTM", "config": {"recurrent_activation": "hard_sigmoid"}}
    leaves = {f"{side}/{leaf}": value for side in ("forward", "backward") for leaf, value in LSTM.items()}
    source = {"layer": inner}
    assert (
        statuses("Bidirectional", source, leaves, nn.LSTM(3, 4, bidirectional=True))["recurrent activation"]
        == "differs"
    )


@pytest.mark.parametrize(
    ("stated", "follower", "status"),
    [
        ("relu", nn.ReLU(), "agrees"), ("relu", nn.Tanh(), "differs"), ("gelu", nn.GELU("tanh"), "differs"),
        ("leaky_relu", nn.LeakyReLU(0.2), "agrees"), ("leaky_relu", nn.LeakyReLU(), "differs"),
        ("waves", nn.ReLU(), None), ("relu", nn.Linear(1, 1), None), ("relu", None, None),
    ],
)  # fmt: skip
def test_the_activation_that_follows_in_a_sequence(stated, follower, status):
    leaves = {"kernel": floats(3, 4), "bias": floats(4)}
    assert statuses("Dense", {"activation": stated}, leaves, nn.Linear(3, 4), follower).get("activation") == status


def test_dropout_of_attention():
    leaves = {f"{part}/{leaf}": floats(*(4,) * (1 if leaf == "bias" else 2)) for part in ("query", "key", "value",
              "attention_output") for leaf in ("kernel", "bias")}  # fmt: skip
    leaves = {leaf: value.reshape(2, 2) if leaf.endswith("bias") and "output" not in leaf else
              value.reshape((2, 2, 4) if "output/kernel" in leaf else (4, 2, 2)) if "kernel" in leaf else value
              for leaf, value in leaves.items()}  # fmt: skip
    assert statuses("MultiHeadAttention", {"dropout": 0.1}, leaves, nn.MultiheadAttention(4, 2)) == {
        "dropout": "differs"
    }
