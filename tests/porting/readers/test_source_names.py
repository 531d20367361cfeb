import pytest

from frostline.porting.readers.source_names import by_numbers, keras_place, role_by_name, unit_and_leaf


def test_numbers_are_numbers():
    names = ["conv2d_10", "conv2d", "conv2d_2", "conv2d_1/kernel", "2/a", "10/a", "²/a"]
    assert sorted(names, key=by_numbers) == ["2/a", "10/a", "conv2d", "conv2d_1/kernel", "conv2d_2", "conv2d_10", "²/a"]


def test_a_name_is_a_layer_and_a_leaf():
    assert unit_and_leaf("a/b/kernel") == ("a/b", "kernel")
    assert unit_and_leaf("kernel") == ("", "kernel")


def test_layers_of_keras_that_have_scopes_inside():
    scopes = {
        "rec/lstm_cell", "both/forward_gru/gru_cell", "both/backward_gru/gru_cell", "forward_net", "att/query",
        "att/key", "att/value", "att/attention_output", "self/query", "self/key", "rnn/stacked_rnn_cells/lstm_cell",
    }  # fmt: skip
    assert keras_place("rec/lstm_cell", "kernel", scopes) == ("rec", "kernel")
    assert keras_place("both/backward_gru/gru_cell", "bias", scopes) == ("both", "backward/bias")
    assert keras_place("att/query", "kernel", scopes) == ("att", "query/kernel")
    same = ("forward_net", "self/query", "rnn/stacked_rnn_cells/lstm_cell", "lstm_cell", "")
    assert [keras_place(scope, "kernel", scopes) for scope in same] == [(scope, "kernel") for scope in same]


NAMES = {
    "conv/kernel", "conv/kernel/Adam", "conv/kernel/Adam_1", "conv/Adam", "conv/kernel/ExponentialMovingAverage",
    "mean", "mean/biased", "mean/local_step", "global_step", "optimizer/beta1_power_1", "training/Adam/conv/m",
    "a/seed_generator_state", "save_counter", "layer/decay", "decay",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("conv/kernel", (3,), None), ("conv/kernel/Adam", (3,), "optimizer slot"),
        ("conv/kernel/Adam_1", (3,), "optimizer slot"), ("conv/Adam", (3,), None),  # a layer of that name
        ("conv/kernel/ExponentialMovingAverage", (3,), "moving average"), ("mean/biased", (3,), "counter"),
        ("mean/local_step", (), "counter"), ("global_step", (), "counter"), ("optimizer/beta1_power_1", (), "counter"),
        ("training/Adam/conv/m", (3,), "optimizer slot"), ("a/seed_generator_state", (2,), "random state"),
        ("save_counter", (), "counter"), ("decay", (), "counter"),
        ("layer/decay", (64,), None),  # a weight: counters have no axes
    ],
)  # fmt: skip
def test_what_is_no_weight(name, shape, role):
    assert role_by_name(name, shape, NAMES) == role


def test_parts_of_a_layer_of_keras():
    from frostline.porting.readers.source_names import part_of_keras_layer

    assert part_of_keras_layer(["both", "forward_gru", "gru_cell_1"]) == (["both"], "forward_gru", "forward")
    assert part_of_keras_layer(["look", "attention_output"]) == (["look"], "attention_output", "attention_output")
    assert part_of_keras_layer(["rnn", "lstm_cell"]) == (["rnn"], "", "")
    assert part_of_keras_layer(["query"]) == (["query"], "", "")
    assert part_of_keras_layer(["rnn", "stacked_rnn_cells", "lstm_cell"])[0][-1] == "lstm_cell"
