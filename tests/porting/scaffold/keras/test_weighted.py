import pytest

from frostline.core.errors import PortError
from frostline.porting.interpreter.network import interpret
from frostline.porting.proof.outputs import difference
from helpers_interpreting import floats, names, network
from helpers_scaffold import error, filled

KINDS = (
    "Dense TimeDistributed Embedding PReLU Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D "
    "SeparableConv2D Conv1DTranspose Conv2DTranspose Conv3DTranspose BatchNormalization LayerNormalization "
    "GroupNormalization LSTM GRU SimpleRNN Bidirectional MultiHeadAttention"
).split()
REFUSED = {
    "dense_layer", "each_conv", "prelu", "transposed_more_valid", "transposed_more_same", "batch_norm_axis",
    "layer_norm_axes", "layer_norm_rms", "lstm_all", "gru_all", "rnn_all", "gru_before", "both_sum", "both_mul",
    "both_ave", "both_last", "attention", "attention_cross",
}  # fmt: skip


@pytest.mark.parametrize(("file", "name"), names(*KINDS), ids=lambda one: one)
def test_every_layer_is_written_as_keras_computes_it(file, name, tmp_path):
    if name in REFUSED:
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
