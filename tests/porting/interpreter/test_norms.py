from dataclasses import replace

import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from helpers_interpreting import assert_refused, assert_same, layer, names

KINDS = (
    "BatchNormalization LayerNormalization RMSNormalization GroupNormalization UnitNormalization Normalization"
).split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


@pytest.mark.parametrize(
    ("name", "config", "why"),
    [
        ("batch_norm_True_True", {"renorm": True}, "renorm=True"),
        ("batch_norm_True_True", {"axis": 7}, "axis 7"),
        ("group_norm", {"axis": 1}, "axis 1"),
        ("group_norm", {"groups": 3}, "groups 3"),
    ],
)
def test_unknown_settings_are_refused(name, config, why):
    assert_refused(name, config, why)


def test_a_norm_computes_backwards_where_it_is_told_to():
    there = apply(layer("keras3", "normalization"))
    again = apply(replace(layer("keras3", "normalization", invert=True), inputs=(there,)))
    assert torch.allclose(again, layer("keras3", "normalization").inputs[0])
