from dataclasses import replace

import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import Layer, NotInterpretedError
from helpers_interpreting import assert_same, layer, names

KINDS = "TimeDistributed".split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


def test_other_layers_and_other_arguments_are_refused():
    cases = (
        (layer("keras3", "dense"), {"kind": "Lambda"}, "not interpreted: dense (Lambda)"),
        (layer("keras3", "dense", call={"kwargs": {"training": True}}), {}, "it is called with arguments"),
        (layer("keras3", "dense", names=("mask",)), {}, "it is called with mask"),
        (layer("keras3", "each_dense", layer={"class_name": "TimeDistributed", "config": {}}), {}, "of itself"),
    )
    for one, changes, why in cases:
        with pytest.raises(NotInterpretedError) as caught:
            apply(replace(one, **changes))
        assert str(caught.value).endswith(why)


def test_arguments_that_are_defaults_say_nothing():
    given = layer("keras3", "dense", call={"args": [None], "kwargs": {"training": False, "mask": None}})
    assert torch.equal(apply(given), apply(layer("keras3", "dense")))


def test_layers_that_mask_are_not_run_at_each_padded_step():
    config = {"layer": {"class_name": "LSTM", "config": {}}}
    padded = Layer(
        "each", "TimeDistributed", config, (torch.zeros(1, 2, 3, 4),), {}, 3, (torch.tensor([[True, False]]),)
    )
    with pytest.raises(NotInterpretedError, match="of LSTM on padded steps"):
        apply(padded)
