import pytest

from helpers_interpreting import assert_refused, assert_same, names

KINDS = "LSTM GRU SimpleRNN Bidirectional".split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("lstm", {"return_state": True}, "return_state=True"),
        ("lstm", {"time_major": True}, "time_major=True"),
        ("gru", {"reset_after": False}, "a bias of shape (2, 9) with reset_after=False"),
        ("both_concat", {"merge_mode": None}, "merge_mode None"),
        ("both_concat", {"layer": 5}, "layer is no layer"),
    ],
)
def test_unknown_settings_are_refused(name, config, why):
    assert_refused(name, config, why)
