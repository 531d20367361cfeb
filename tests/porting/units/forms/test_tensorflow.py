import pytest
from torch import nn

from frostline.porting.units.forms.tensorflow import renamed
from frostline.porting.units.unit import source_units
from helpers_porting import formed, numbers, source_of


def leaves_of(name, **leaves):
    (unit,) = source_units(source_of("tensorflow", {name: leaves}))
    return {leaf: tensor.shape for leaf, tensor in renamed(unit).leaves.items()}


def test_one_kernel_of_a_cell_is_that_of_its_input_and_that_of_its_state():
    made = leaves_of("rnn/basic_lstm_cell", kernel=numbers(5, 8), bias=numbers(8))
    assert made == {"bias": (8,), "kernel_of_input": (3, 8), "kernel_of_state": (2, 8)}


def test_leaves_of_slim_are_those_of_keras():
    assert leaves_of("fc", weights=numbers(2, 3), biases=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}


def test_matrices_of_tutorials_are_kernels():
    assert leaves_of("fc", W=numbers(2, 3), b=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}
    assert leaves_of("g_h0_lin", Matrix=numbers(2, 3), bias=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}


def test_leaves_that_would_have_one_name_stay_as_they_are():
    assert set(leaves_of("fc", w=numbers(2, 3), kernel=numbers(2, 3))) == {"w", "kernel"}


def test_tables_of_one_scope_are_embeddings_of_their_own():
    tables = {"word_embeddings": numbers(9, 2), "position_embeddings": numbers(4, 2), "bias": numbers(2)}
    made = formed("tensorflow", {"bert/embeddings": tables})
    assert made["bert/embeddings/word_embeddings"] == {"embeddings": (9, 2)}
    assert made["bert/embeddings"] == {"bias": (2,)}
    assert list(formed("keras", {"e": tables})) == ["e"]


def test_gates_and_candidate_of_a_gru_cell_are_one_layer():
    cell = {"rnn/gru_cell/gates": {"kernel": numbers(5, 4), "bias": numbers(4)},
            "rnn/gru_cell/candidate": {"kernel": numbers(5, 2), "bias": numbers(2)}}  # fmt: skip
    assert formed("tensorflow", cell)["rnn/gru_cell"] == {
        "gates_bias": (4,), "candidate_bias": (2,), "gates_of_input": (3, 4), "gates_of_state": (2, 4),
        "candidate_of_input": (3, 2), "candidate_of_state": (2, 2),
    }  # fmt: skip
    assert set(formed("keras", cell)["rnn/gru_cell"]) == {
        f"{p}/{k}" for p in ("gates", "candidate") for k in ("kernel", "bias")
    }


@pytest.mark.parametrize(
    "names",
    [{"wc1": "bc1", "wout": "bout"}, {"W1": "b1", "W2": "b2"}, {"W_conv1": "b_conv1", "W_fc": "b_fc"},
     {"weights_a": "biases_a", "weights_b": "biases_b"}, {"a_w": "a_b", "b_w": "b_b"}],
)  # fmt: skip
def test_layers_of_one_scope_are_known_by_the_rest_of_their_names(names):
    leaves = {name: numbers(2, at + 3) for at, name in enumerate(names)}
    leaves |= {name: numbers(at + 3) for at, name in enumerate(names.values())}
    found = formed("tensorflow", {"net": leaves}, nn.Linear(2, 3))
    assert [list(one.items()) for one in found.values()] == [
        [("kernel", (2, at + 3)), ("bias", (at + 3,))] for at in range(2)
    ]
    assert all(name.startswith("net/") for name in found)


def test_a_layer_of_one_scope_may_have_no_bias():
    leaves = {"w1": numbers(2, 3), "b1": numbers(3), "w2": numbers(3, 4)}
    assert formed("tensorflow", {"": leaves}, nn.Linear(2, 3)) == {
        "1": {"kernel": (2, 3), "bias": (3,)}, "2": {"kernel": (3, 4)},
    }  # fmt: skip


@pytest.mark.parametrize(
    "leaves",
    [{"w1": numbers(2, 3), "b1": numbers(4)}, {"w1": numbers(2, 3), "W1": numbers(2, 3), "b1": numbers(3)},
     {"w1": numbers(2, 3), "b1": numbers(3), "other": numbers(3)}, {"w1": numbers(2, 3), "b2": numbers(3)},
     {"w1": numbers(3), "b1": numbers(3)}, {"w1": numbers(2, 3), "w2": numbers(2, 3)}],
)  # fmt: skip
def test_a_scope_whose_names_do_not_pair_stays_one_layer(leaves):
    assert formed("tensorflow", {"net": leaves}, nn.Linear(2, 3)) == {
        "net": {leaf: tuple(one.shape) for leaf, one in leaves.items()}
    }
