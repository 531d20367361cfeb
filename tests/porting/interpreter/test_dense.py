from dataclasses import replace

import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import NotInterpretedError
from helpers_interpreting import assert_same, layer, names

KINDS = "Dense EinsumDense Embedding MultiHeadAttention".split()


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_gives_what_keras_gives(file, name):
    assert_same(file, name)


def test_numbers_without_a_row_are_refused():
    with pytest.raises(NotInterpretedError) as caught:
        apply(replace(layer("keras3", "embedding"), inputs=(torch.tensor([[9]]),)))
    assert str(caught.value).endswith("numbers from 9 to 9 for 9 rows")


def test_values_of_an_attention_are_told_by_the_names_of_its_arguments():
    given = layer("keras3", "attention_cross")
    query, value, key = given.inputs
    expected = apply(replace(given, inputs=(query, value, key + 1)))
    named = layer("keras3", "attention_cross", names=("", "key", "value"))
    assert torch.equal(apply(replace(named, inputs=(query, key + 1, value))), expected)
    with pytest.raises(NotInterpretedError, match="it is called with attention_mask"):
        apply(layer("keras3", "attention_cross", names=("", "", "attention_mask")))


def test_a_causal_attention_does_not_look_ahead():
    given = layer("keras3", "attention", call={"args": [None, None], "kwargs": {"use_causal_mask": True}})
    x = given.inputs[0]
    one = apply(replace(given, inputs=(x, x)))
    later = x.clone()
    later[:, 3:] += 1
    two = apply(replace(given, inputs=(later, later)))
    assert torch.equal(one[:, :3], two[:, :3])
    assert not torch.allclose(one[:, 3:], two[:, 3:])
