import pytest

from frostline.core.errors import PortError
from frostline.porting.interpreter.network import interpret
from frostline.porting.proof.module_outputs import difference
from frostline.porting.scaffold.module_text import module_text
from helpers_interpreting import floats, names, network
from helpers_scaffold import error, filled

KINDS = (
    "Dense TimeDistributed Embedding PReLU Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D "
    "SeparableConv2D Conv1DTranspose Conv2DTranspose Conv3DTranspose BatchNormalization LayerNormalization "
    "GroupNormalization RMSNormalization Normalization EinsumDense LSTM GRU SimpleRNN Bidirectional MultiHeadAttention"
).split()
REFUSED = {
    "each_conv", "prelu", "transposed_more_valid", "transposed_more_same", "batch_norm_axis", "layer_norm_axes",
    "layer_norm_rms", "lstm_all", "gru_all", "rnn_all", "both_last",
}  # fmt: skip
OF_KERAS_3 = {"gru_before"}  # its hard sigmoid is another function


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_is_written_as_keras_computes_it(file, name, tmp_path):
    if name in REFUSED or (file == "keras3" and name in OF_KERAS_3):
        with pytest.raises(PortError, match="No module can be written for this network"):
            error(file, name, tmp_path)
    else:
        assert error(file, name, tmp_path) <= 1e-5


@pytest.mark.parametrize("order", [("", "", ""), ("", "key", "value")])
def test_an_attention_whose_heads_are_as_wide_as_its_input(order, tmp_path):
    weights = {f"layer__{part}/kernel": floats(4, 2, 2, seed=at) for at, part in enumerate(("query", "key", "value"))}
    config = {"num_heads": 2, "key_dim": 2, "use_bias": False, "names": order}
    source = network(
        ("q", "InputLayer", {"batch_shape": [None, 5, 4]}, ()), ("a", "InputLayer", {"batch_shape": [None, 3, 4]}, ()),
        ("b", "InputLayer", {"batch_shape": [None, 3, 4]}, ()),
        ("layer", "MultiHeadAttention", config, ("q", "a", "b")),
        **weights | {"layer__attention_output/kernel": floats(2, 2, 4, seed=3)},
    )  # fmt: skip
    inputs = floats(2, 5, 4), floats(2, 3, 4, seed=1), floats(2, 3, 4, seed=2)
    (wanted,) = interpret(source, [value.double() for value in inputs]).outputs
    assert difference([filled(source, tmp_path)(*inputs).detach()], [wanted]) <= 1e-5


def test_attention_of_one_network_is_written_in_one_form(tmp_path):
    def weights(name, key, seed):
        made = {f"{name}__{part}/kernel": floats(4, 2, key, seed=seed + at)
                for at, part in enumerate(("query", "key", "value"))}  # fmt: skip
        return made | {f"{name}__attention_output/kernel": floats(2, key, 4, seed=seed + 3)}

    source = network(
        ("q", "InputLayer", {"batch_shape": [None, 5, 4]}, ()),
        ("one", "MultiHeadAttention", {"num_heads": 2, "key_dim": 2, "use_bias": False}, ("q", "q")),
        ("two", "MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "use_bias": False}, ("one", "one")),
        **weights("one", 2, 0), **weights("two", 3, 9),
    )  # fmt: skip
    text = module_text(source, "file")
    assert "self.one = blocks.WideAttention(4, 2, 2, bias=False)" in text
    assert "self.two = blocks.WideAttention(4, 2, 3, bias=False)" in text
    x = floats(2, 5, 4)
    (wanted,) = interpret(source, [x.double()]).outputs
    assert difference([filled(source, tmp_path)(x).detach()], [wanted]) <= 1e-5


def test_a_product_with_another_equation_is_refused(tmp_path):
    source = network(
        ("q", "InputLayer", {"batch_shape": [None, 5, 4]}, ()),
        ("end", "EinsumDense", {"equation": "abc,cde->abde"}, ("q",)), end__kernel=floats(4, 2, 3),
    )  # fmt: skip
    with pytest.raises(PortError) as caught:
        module_text(source, "file")
    assert "an equation that is not a product of the last axis" in caught.value.received
